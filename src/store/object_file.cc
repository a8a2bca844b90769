#include "store/object_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/aligned.h"
#include "base/limits.h"
#include "os/file.h"

namespace reclo::store {
namespace {

// Between two pieces a transfer looks whether it should stop.
constexpr size_t kPieceSizeBytes = 4 * kMiB;
constexpr size_t kDirectSizeBytesMin = kMiB;
constexpr size_t kDirectPieceSizeBytes = kMiB;

bool set_direct(const os::Fd& fd, bool direct) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  return flags >= 0 &&
         ::fcntl(fd.get(), F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

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

// How much of `content` was written, from its start. The last piece is padded to a whole block:
// the file is then longer than its content.
Result<size_t> write_directly(const os::Fd& fd, ByteSpan content, const CancelToken& cancel) {
  const AlignedBuffer buffer = make_aligned_buffer(
      std::min(kDirectPieceSizeBytes, round_up(content.size(), kAlignmentBytes)));
  size_t written = 0;
  while (written < content.size()) {
    RECLO_TRY(cancel.check());
    const size_t piece = std::min(content.size() - written, kDirectPieceSizeBytes);
    const size_t padded = round_up(piece, kAlignmentBytes);
    std::memcpy(buffer.get(), content.data() + written, piece);
    std::memset(buffer.get() + piece, 0, padded - piece);
    const ssize_t put = ::pwrite(fd.get(), buffer.get(), padded, static_cast<off_t>(written));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno != EINVAL) return Error::from_errno(errno, "write");
    // Refused after all, or cut short: the rest goes the ordinary way, which tells why.
    if (put != static_cast<ssize_t>(padded)) return written;
    written += piece;
  }
  return written;
}

}  // namespace

Status write_object_file(const os::Fd& fd, ByteSpan content, const CancelToken& cancel) {
  if (content.size() < kDirectSizeBytesMin || !set_direct(fd, true))
    return write_through_cache(fd, 0, content, cancel);
  RECLO_ASSIGN_OR_RETURN(const size_t written, write_directly(fd, content, cancel));
  set_direct(fd, false);
  RECLO_TRY(write_through_cache(fd, written, content.subspan(written), cancel));
  if (::ftruncate(fd.get(), static_cast<off_t>(content.size())) != 0)
    return Error::from_errno(errno, "set the size");
  return {};
}

}  // namespace reclo::store
