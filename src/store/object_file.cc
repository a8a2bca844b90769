#include "store/object_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "base/aligned.h"
#include "base/limits.h"
#include "os/direct_io.h"
#include "os/file.h"

namespace reclo::store {
namespace {

// Between two pieces a transfer looks whether it should stop.
constexpr size_t kPieceSizeBytes = 4 * kMiB;
constexpr size_t kDirectSizeBytesMin = kMiB;
constexpr size_t kDirectPieceSizeBytes = kMiB;

Status write_through_cache(const os::Fd& fd, uint64_t offset_bytes, ByteSpan content,
                           const CancelToken& cancel) {
  while (!content.empty()) {
    RECLO_TRY(cancel.check());
    const ByteSpan piece = content.first(std::min(content.size(), kPieceSizeBytes));
    RECLO_TRY(os::write_at(fd, offset_bytes, piece));
    // Lets the disk begin now, so that the fsync finds most of the work done. Only a hint.
    ::sync_file_range(fd.get(), static_cast<off_t>(offset_bytes), static_cast<off_t>(piece.size()),
                      SYNC_FILE_RANGE_WRITE);
    offset_bytes += piece.size();
    content = content.subspan(piece.size());
  }
  return {};
}

// How much of `content` was written, from its start. An object's bytes lie anywhere in memory, so
// they go by way of an aligned buffer, which stays in the processor's cache.
Result<size_t> write_past_cache(const os::Fd& fd, ByteSpan content, const CancelToken& cancel) {
  const os::Fd direct = os::reopen_for_direct_writes(fd);
  if (!direct.valid()) return size_t{0};
  const AlignedBuffer buffer = make_aligned_buffer(kDirectPieceSizeBytes);
  size_t written = 0;
  while (written < content.size()) {
    RECLO_TRY(cancel.check());
    const size_t piece = std::min(content.size() - written, kDirectPieceSizeBytes);
    std::memcpy(buffer.get(), content.data() + written, piece);
    const size_t put = os::write_directly(direct, written, {buffer.get(), piece});
    written += put;
    if (put != piece) break;
  }
  return written;
}

}  // namespace

Status write_object_file(const os::Fd& fd, ByteSpan content, const CancelToken& cancel) {
  size_t written = 0;
  if (content.size() >= kDirectSizeBytesMin) {
    RECLO_ASSIGN_OR_RETURN(written, write_past_cache(fd, content, cancel));
  }
  return write_through_cache(fd, written, content.subspan(written), cancel);
}

}  // namespace reclo::store
