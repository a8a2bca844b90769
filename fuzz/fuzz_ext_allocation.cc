// A file system with crafted metadata: what may be left out stays inside it, ascending, and the
// work ends. Input: runs of {offset in 64-byte units (3 bytes), length (1 byte), bytes} laid over
// zeros, so that a small input reaches superblock, descriptors, bitmaps and journal.
#include "base/check.h"
#include "base/units.h"
#include "disk/ext_allocation.h"
#include "disk/swap_allocation.h"

using namespace reclo;

namespace {

constexpr size_t kVolumeSizeBytes = 4 * kMiB;

// A seed corpus can also be whole small images: those start with the boot block's zeros.
void lay_out(ByteSpan input, Bytes& volume) {
  if (input.size() > 2048 && is_all_zero(input.first(1024))) {
    std::copy_n(input.begin(), std::min(input.size(), volume.size()), volume.begin());
    return;
  }
  ByteReader reader(input);
  while (reader.remaining() > 4) {
    const uint64_t unit = reader.u16() | uint64_t{reader.u8()} << 16;
    const size_t length = std::min<size_t>(reader.u8(), reader.remaining());
    const ByteSpan bytes = reader.raw(length);
    const size_t at = unit * 64 % volume.size();
    std::copy_n(bytes.begin(), std::min(length, volume.size() - at),
                volume.begin() + static_cast<ptrdiff_t>(at));
  }
}

void check_ranges(const std::vector<disk::Range>& ranges) {
  uint64_t at = 0;
  for (const disk::Range& range : ranges) {
    RECLO_CHECK(range.size_bytes > 0 && range.offset_bytes >= at);
    at = range.end_bytes();
  }
  RECLO_CHECK(at <= kVolumeSizeBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Bytes volume;
  volume.assign(kVolumeSizeBytes, 0);
  lay_out({data, size}, volume);
  const disk::Readable readable{
      volume.size(), [&](uint64_t offset_bytes, MutableByteSpan out) -> Status {
        RECLO_CHECK(offset_bytes <= volume.size() && out.size() <= volume.size() - offset_bytes);
        std::copy_n(volume.begin() + static_cast<ptrdiff_t>(offset_bytes), out.size(), out.begin());
        return {};
      }};
  disk::RangeCollector free_blocks(1000);
  RECLO_CHECK(disk::collect_ext_free(readable, 0, free_blocks, CancelToken()).ok());
  check_ranges(free_blocks.take());
  disk::RangeCollector free_swap(1000);
  RECLO_CHECK(disk::collect_swap_free(readable, 0, free_swap).ok());
  check_ranges(free_swap.take());
  return 0;
}
