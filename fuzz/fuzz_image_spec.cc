// The image module's parsers of what comes from outside: an export's specification and a boot set.
#include "image/boot_set.h"
#include "image/image_spec.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan input(data, size);
  ignore_error(image::decode_image_spec(input), "any answer but a crash is right");
  const auto ranges = image::decode_boot_set(input, kGiB);
  if (!ranges.ok()) return 0;
  for (const disk::Range& range : *ranges)
    if (range.size_bytes == 0 || range.end_bytes() > kGiB) RECLO_CHECK(false);
  return 0;
}
