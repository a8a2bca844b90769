// What an S3 server answers.
#include "store/s3_xml.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan xml(data, size);
  ignore_error(store::parse_s3_list(xml), "fuzzed");
  static_cast<void>(store::parse_s3_error(xml));
  ignore_error(store::parse_s3_upload_id(xml), "fuzzed");
  return 0;
}
