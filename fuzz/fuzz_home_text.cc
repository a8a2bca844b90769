// Price lists, failback records, markers of recovered copies and servers' identities: any text may
// be refused, and what is taken survives being written again.
#include "backup/server_identity.h"
#include "base/check.h"
#include "recovery/clone_marker.h"
#include "recovery/ec2/prices.h"
#include "recovery/failback/failback_record.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: {
      const auto prices = recovery::decode_prices(text);
      if (prices.ok()) prices->is_stale(wall_now());
      break;
    }
    case 1: {
      const auto record = recovery::decode_failback(text);
      if (!record.ok()) break;
      recovery::forecast_cutover(*record);
      const auto again = recovery::decode_failback(recovery::encode_failback(*record));
      RECLO_CHECK(again.ok());
      break;
    }
    case 2: {
      const auto marker = recovery::decode_clone_marker(text);
      if (!marker.ok()) break;
      RECLO_CHECK(recovery::decode_clone_marker(recovery::encode_clone_marker(*marker)).ok());
      break;
    }
    default: {
      const auto identity = backup::decode_identity(text);
      if (!identity.ok()) break;
      RECLO_CHECK(backup::decode_identity(backup::encode_identity(*identity)).ok());
    }
  }
  return 0;
}
