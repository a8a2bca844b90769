// What EC2 answers, and what the state folder says of a standby.
#include "base/check.h"
#include "cloud/xml.h"
#include "recovery/ec2/standby_record.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan bytes(data, size);
  const auto document = cloud::parse_xml(bytes, "fuzzed");
  if (document.ok()) {
    const pugi::xml_node root = (*document)->document_element();
    for (const pugi::xml_node node : root.children()) {
      cloud::xml_text(node, "snapshotId");
      ignore_error(cloud::xml_required(node, "status"), "fuzzed");
      ignore_error(cloud::xml_number(node, "volumeSize"), "fuzzed");
      cloud::xml_bool(node, "isPublic");
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ignore_error(cloud::SnapshotId::parse(text), "fuzzed");
  const auto record = recovery::decode_standby(text);
  if (record.ok()) {
    const auto again = recovery::decode_standby(recovery::encode_standby(*record));
    RECLO_CHECK(again.ok() && *again == *record);
  }
  return 0;
}
