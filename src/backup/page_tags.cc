#include "backup/page_tags.h"

#include <unistd.h>

#include <cerrno>

#include "base/kill_point.h"

namespace reclo::backup {
namespace {

constexpr std::string_view kMagic = "RCLOTAGS";
constexpr std::string_view kUpdatesMagic = "TAGU";
constexpr uint32_t kVersion = 2;
constexpr uint64_t kHeaderSizeBytes = 4096;
constexpr size_t kSegmentTagsSizeBytes = kPagesPerSegment * PageTag::kSize;
constexpr size_t kUpdatesHeaderSizeBytes = 8;  // "TAGU", u32 from_scratch
constexpr std::string_view kUpdatesEndMagic = "TAGSDONE";
constexpr size_t kUpdatesEndSizeBytes = kUpdatesEndMagic.size() + ChunkId::kSize;
constexpr size_t kUpdateSizeBytes = 8 + kSegmentTagsSizeBytes;
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
  PageTagFile file(std::move(fd));
  Bytes header(8 + 4 + 4 + PointId::kSize);
  if (!os::read_at(file.fd_, 0, header).ok()) return file;  // new or cut off: describes nothing
  ByteReader in(header);
  const ByteSpan magic = in.raw(kMagic.size());
  const uint32_t version = in.u32();
  const uint32_t stamped = in.u32();
  PointId point;
  in.copy_to(point.mutable_bytes());
  if (as_text(magic) == kMagic && version == kVersion && stamped == 1) file.point_ = point;
  return file;
}

Status PageTagFile::read(uint64_t segment_index, SegmentTags& tags) const {
  MutableByteSpan left = tag_bytes(tags);
  uint64_t offset = tags_offset(segment_index);
  while (!left.empty()) {
    const ssize_t got = ::pread(fd_.get(), left.data(), left.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read page tags in the state folder");
    if (got == 0) {
      std::memset(left.data(), 0, left.size());
      return {};
    }
    left = left.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Status PageTagFile::write_stamp(const std::optional<PointId>& point) {
  Bytes header;
  ByteWriter out(header);
  out.raw(as_bytes(kMagic));
  out.u32(kVersion);
  out.u32(point ? 1 : 0);
  out.raw(point ? point->bytes() : PointId().bytes());
  header.resize(kHeaderSizeBytes, 0);
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
  if (from_scratch && ::ftruncate(fd_.get(), kHeaderSizeBytes) != 0)
    return Error::from_errno(errno, "reset page tags");
  RECLO_KILL_POINT("tags.applying");
  Bytes record(kUpdateSizeBytes);
  for (uint64_t at = kUpdatesHeaderSizeBytes; at < frame.records_end; at += kUpdateSizeBytes) {
    RECLO_TRY(os::read_at(updates, at, record));
    const auto segment_index = load_le<uint64_t>(record.data());
    if (segment_index > kDiskSizeBytesMax / kSegmentSizeBytes)
      return Error(Code::kCorruption, "the page tag updates are damaged");
    RECLO_TRY_WITH(os::write_at(fd_, tags_offset(segment_index), ByteSpan(record).subspan(8)),
                   "remembering page tags in the state folder");
  }
  RECLO_TRY(os::fsync(fd_));
  return write_stamp(point);
}

}  // namespace reclo::backup
