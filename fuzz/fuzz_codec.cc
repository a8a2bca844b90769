// Slot payloads: damaged ones are refused, and whatever was encoded comes back.
#include <algorithm>

#include "base/check.h"
#include "base/limits.h"
#include "repo/codec.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static repo::Compressor compressor;
  static repo::Decompressor decompressor;
  const ByteSpan input(data, size);
  const auto decoded = decompressor.decode(input, kNodeSizeBytesMax);
  if (decoded.ok()) RECLO_CHECK(decoded->size() <= kNodeSizeBytesMax);
  Bytes page(kPageSizeBytes);
  ignore_error(decompressor.decode(input, MutableByteSpan(page)), "fuzzed");

  const Bytes payload = compressor.encode(input, size % 2 == 0 ? 1 : -3);
  Bytes back(size);
  RECLO_CHECK(decompressor.decode(payload, MutableByteSpan(back)).ok());
  RECLO_CHECK(std::equal(back.begin(), back.end(), input.begin(), input.end()));
  return 0;
}
