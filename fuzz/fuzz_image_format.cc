// Telling image formats apart never reads outside a file and always names a known format.
#include "base/check.h"
#include "disk/image_format.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan file(data, size);
  const disk::Readable readable{
      file.size(), [&](uint64_t offset_bytes, MutableByteSpan out) -> Status {
        RECLO_CHECK(offset_bytes <= file.size() && out.size() <= file.size() - offset_bytes);
        std::copy_n(file.begin() + static_cast<ptrdiff_t>(offset_bytes), out.size(), out.begin());
        return {};
      }};
  const auto format = disk::detect_image_format(readable);
  RECLO_CHECK(format.ok() && disk::is_image_format(*format));
  return 0;
}
