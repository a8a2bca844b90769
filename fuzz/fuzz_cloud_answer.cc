// What EC2 and Service Quotas answer, and what the state folder says of a standby and a failover.
#include "base/check.h"
#include "cloud/quotas_client.h"
#include "cloud/xml.h"
#include "recovery/ec2/failover_record.h"
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
  ignore_error(cloud::parse_quota(text), "fuzzed");
  const auto instance = recovery::decode_ec2_instance(text);
  if (instance.ok()) {
    const auto again = recovery::decode_ec2_instance(recovery::encode_ec2_instance(*instance));
    RECLO_CHECK(again.ok() && *again == *instance);
  }
  return 0;
}
