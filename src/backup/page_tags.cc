#include "backup/page_tags.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/kill_point.h"
#include "base/units.h"
#include "crypto/hash.h"

namespace reclo::backup {
namespace {

constexpr std::string_view kMagic = "RCLOTAGS";
constexpr std::string_view kUpdatesMagic = "TAGU";
constexpr uint32_t kVersion = 3;
constexpr uint64_t kHeaderSizeBytes = 4096;
constexpr size_t kSegmentTagsSizeBytes = kPagesPerSegment * PageTag::kSize;
constexpr size_t kUpdatesHeaderSizeBytes = 8;  // "TAGU", u32 from_scratch
constexpr std::string_view kUpdatesEndMagic = "TAGSDONE";
constexpr size_t kUpdatesEndSizeBytes = kUpdatesEndMagic.size() + ChunkId::kSize;
constexpr size_t kSumSizeBytes = 16;
constexpr size_t kUpdateSizeBytes = 8 + kSegmentTagsSizeBytes + kSumSizeBytes;
constexpr size_t kSumsPieceSizeBytes = kMiB;
constexpr size_t kBufferSizeBytes = 64 * kUpdateSizeBytes;

static_assert(sizeof(SegmentTags) == kSegmentTagsSizeBytes);

ByteSpan tag_bytes(const SegmentTags& tags) {
  return {reinterpret_cast<const uint8_t*>(tags.data()), sizeof tags};
}
MutableByteSpan tag_bytes(SegmentTags& tags) {
  return {reinterpret_cast<uint8_t*>(tags.data()), sizeof tags};
}

uint64_t tags_offset(uint64_t segment_index) {
  return kHeaderSizeBytes + segment_index * kSegmentTagsSizeBytes;
}

using TagSum = std::array<uint8_t, kSumSizeBytes>;

// Never zero: zeros stand for a segment that was never recorded.
TagSum sum_of(uint64_t segment_index, ByteSpan tags) {
  Bytes message;
  message.reserve(8 + tags.size());
  ByteWriter out(message);
  out.u64(segment_index);
  out.raw(tags);
  const crypto::Sha256Digest digest = crypto::sha256(message);
  TagSum sum;
  std::copy_n(digest.begin(), sum.size(), sum.begin());
  sum[0] |= 1;
  return sum;
}

// Reads what is there; zeros past the end of the file.
Status read_or_zeros(const os::Fd& fd, uint64_t offset, MutableByteSpan out) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read page tags in the state folder");
    if (got == 0) {
      std::memset(out.data(), 0, out.size());
      return {};
    }
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

// Of the whole file of sums, whatever its size: a chain over its pieces.
Result<crypto::Sha256Digest> digest_of_sums(const os::Fd& fd, uint64_t size_bytes) {
  crypto::Sha256Digest chain{};
  Bytes message(chain.size() + kSumsPieceSizeBytes);
  for (uint64_t at = 0; at < size_bytes; at += kSumsPieceSizeBytes) {
    const size_t piece = std::min<uint64_t>(kSumsPieceSizeBytes, size_bytes - at);
    message.resize(chain.size() + piece);
    std::copy(chain.begin(), chain.end(), message.begin());
    RECLO_TRY(os::read_at(fd, at, MutableByteSpan(message).subspan(chain.size())));
    chain = crypto::sha256(message);
  }
  return chain;
}

// What stands around the records of an updates file.
struct UpdatesFrame {
  bool from_scratch = false;
  uint64_t records_end = 0;
  ChunkId map_root;
};

Result<UpdatesFrame> read_frame(const os::Fd& updates, uint64_t size_bytes) {
  const Error cut_off(Code::kCorruption, "the page tag updates are cut off or damaged");
  constexpr uint64_t kAroundSizeBytes = kUpdatesHeaderSizeBytes + kUpdatesEndSizeBytes;
  if (size_bytes < kAroundSizeBytes || (size_bytes - kAroundSizeBytes) % kUpdateSizeBytes != 0)
    return cut_off;
  Bytes header(kUpdatesHeaderSizeBytes);
  Bytes end(kUpdatesEndSizeBytes);
  UpdatesFrame frame;
  frame.records_end = size_bytes - kUpdatesEndSizeBytes;
  RECLO_TRY(os::read_at(updates, 0, header));
  RECLO_TRY(os::read_at(updates, frame.records_end, end));
  if (as_text(ByteSpan(header).first(4)) != kUpdatesMagic ||
      as_text(ByteSpan(end).first(kUpdatesEndMagic.size())) != kUpdatesEndMagic)
    return cut_off;
  frame.from_scratch = load_le<uint32_t>(header.data() + 4) == 1;
  frame.map_root = ChunkId::from_bytes(ByteSpan(end).subspan(kUpdatesEndMagic.size()));
  return frame;
}

}  // namespace

Result<TagUpdates> TagUpdates::create(const std::string& path, bool from_scratch) {
  RECLO_TRY(os::remove_file(path));
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(path, os::OpenMode::kCreate));
  TagUpdates updates(std::move(fd));
  ByteWriter out(updates.buffer_);
  out.raw(as_bytes(kUpdatesMagic));
  out.u32(from_scratch ? 1 : 0);
  return updates;
}

Status TagUpdates::append(uint64_t segment_index, const SegmentTags& tags) {
  ByteWriter out(buffer_);
  out.u64(segment_index);
  out.raw(tag_bytes(tags));
  out.raw(sum_of(segment_index, tag_bytes(tags)));
  return buffer_.size() >= kBufferSizeBytes ? flush() : ok_status();
}

Status TagUpdates::flush() {
  RECLO_TRY_WITH(os::write_all(fd_, buffer_), "remembering page tags in the state folder");
  buffer_.clear();
  return {};
}

Status TagUpdates::finish(const ChunkId& map_root) {
  ByteWriter out(buffer_);
  out.raw(as_bytes(kUpdatesEndMagic));
  out.raw(map_root.bytes());
  RECLO_TRY(flush());
  return os::fsync(fd_);
}

Result<PageTagFile> PageTagFile::open(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(path, os::OpenMode::kCreate));
  RECLO_ASSIGN_OR_RETURN(os::Fd sums, os::open_file(path + ".sums", os::OpenMode::kCreate));
  PageTagFile file(std::move(fd), std::move(sums));
  Bytes header(kHeaderSizeBytes);
  if (!os::read_at(file.fd_, 0, header).ok()) return file;  // new or cut off: describes nothing
  ByteReader in(header);
  in.raw(kMagic.size() + 4 + 4);
  PointId point;
  in.copy_to(point.mutable_bytes());
  // Made anew from what is there: equal only when the sums are those of the stamp.
  RECLO_ASSIGN_OR_RETURN(const Bytes expected, file.make_header(point));
  if (header == expected) file.point_ = point;
  return file;
}

Result<bool> PageTagFile::read(uint64_t segment_index, SegmentTags& tags) const {
  TagSum sum;
  RECLO_TRY(read_or_zeros(sums_fd_, segment_index * kSumSizeBytes, sum));
  RECLO_TRY(read_or_zeros(fd_, tags_offset(segment_index), tag_bytes(tags)));
  return is_all_zero(sum) ? is_all_zero(tag_bytes(tags))
                          : sum == sum_of(segment_index, tag_bytes(tags));
}

Result<Bytes> PageTagFile::make_header(const std::optional<PointId>& point) const {
  Bytes header;
  ByteWriter out(header);
  out.raw(as_bytes(kMagic));
  out.u32(kVersion);
  out.u32(point ? 1 : 0);
  out.raw(point ? point->bytes() : PointId().bytes());
  if (point) {
    struct stat sums{};
    if (::fstat(sums_fd_.get(), &sums) != 0) return Error::from_errno(errno, "stat page tags");
    const auto sums_size_bytes = static_cast<uint64_t>(sums.st_size);
    RECLO_ASSIGN_OR_RETURN(const auto digest, digest_of_sums(sums_fd_, sums_size_bytes));
    out.u64(sums_size_bytes);
    out.raw(digest);
  }
  header.resize(kHeaderSizeBytes, 0);
  return header;
}

Status PageTagFile::write_stamp(const std::optional<PointId>& point) {
  RECLO_ASSIGN_OR_RETURN(const Bytes header, make_header(point));
  RECLO_TRY(os::write_at(fd_, 0, header));
  RECLO_TRY(os::fsync(fd_));
  point_ = point;
  return {};
}

Status PageTagFile::apply(const std::string& updates_path, const PointId& point,
                          const ChunkId& map_root) {
  RECLO_ASSIGN_OR_RETURN(const os::Fd updates, os::open_file(updates_path, os::OpenMode::kRead));
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(updates_path));
  RECLO_ASSIGN_OR_RETURN(const UpdatesFrame frame, read_frame(updates, size_bytes));
  if (frame.map_root != map_root)
    return Error(Code::kCorruption, "the page tag updates belong to another backup");
  const bool from_scratch = frame.from_scratch;
  RECLO_TRY(write_stamp(std::nullopt));
  if (from_scratch &&
      (::ftruncate(fd_.get(), kHeaderSizeBytes) != 0 || ::ftruncate(sums_fd_.get(), 0) != 0))
    return Error::from_errno(errno, "reset page tags");
  RECLO_KILL_POINT("tags.applying");
  Bytes record(kUpdateSizeBytes);
  for (uint64_t at = kUpdatesHeaderSizeBytes; at < frame.records_end; at += kUpdateSizeBytes) {
    RECLO_TRY(os::read_at(updates, at, record));
    const auto segment_index = load_le<uint64_t>(record.data());
    const ByteSpan tags = ByteSpan(record).subspan(8, kSegmentTagsSizeBytes);
    const ByteSpan sum = ByteSpan(record).last(kSumSizeBytes);
    if (segment_index > kDiskSizeBytesMax / kSegmentSizeBytes ||
        !std::ranges::equal(sum, sum_of(segment_index, tags)))
      return Error(Code::kCorruption, "the page tag updates are damaged");
    static constexpr const char* kWhat = "remembering page tags in the state folder";
    RECLO_TRY_WITH(os::write_at(fd_, tags_offset(segment_index), tags), kWhat);
    RECLO_TRY_WITH(os::write_at(sums_fd_, segment_index * kSumSizeBytes, sum), kWhat);
  }
  RECLO_TRY(os::fsync(fd_));
  RECLO_TRY(os::fsync(sums_fd_));
  return write_stamp(point);
}

}  // namespace reclo::backup
