#include "image/boot_set.h"

#include <algorithm>

#include "base/log.h"
#include "os/file.h"

namespace reclo::image {
namespace {

constexpr std::string_view kMagic = "RCLOBOOT";
constexpr uint32_t kVersion = 1;

}  // namespace

Result<std::vector<disk::Range>> decode_boot_set(ByteSpan content, uint64_t disk_size_bytes) {
  ByteReader in(content);
  const ByteSpan magic = in.raw(kMagic.size());
  if (!in.ok() || as_text(magic) != kMagic) return Error(Code::kCorruption, "not a boot set");
  const uint32_t version = in.u32();
  const uint32_t count = in.u32();
  const uint64_t recorded_size_bytes = in.u64();
  if (in.ok() && version != kVersion)
    return Error(Code::kUnsupported, "a boot set of a newer ReClo");
  if (!in.ok() || count > kBootSetEntriesMax || in.remaining() != count * sizeof(uint32_t))
    return Error(Code::kCorruption, "a boot set is cut off");
  // A disk that grew or shrank still starts the same way: entries past its end are left out.
  static_cast<void>(recorded_size_bytes);
  std::vector<disk::Range> ranges;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t start = in.u32() * kBootSetGranuleSizeBytes;
    if (start >= disk_size_bytes) continue;
    const uint64_t size = std::min(kBootSetGranuleSizeBytes, disk_size_bytes - start);
    if (!ranges.empty() && ranges.back().end_bytes() == start)
      ranges.back().size_bytes += size;
    else
      ranges.push_back({start, size});
  }
  return ranges;
}

Result<std::vector<disk::Range>> load_boot_set(const std::string& path, uint64_t disk_size_bytes) {
  RECLO_ASSIGN_OR_RETURN(const Bytes content,
                         os::read_file(path, 64 + kBootSetEntriesMax * sizeof(uint32_t)));
  return decode_boot_set(content, disk_size_bytes);
}

BootSetRecorder::BootSetRecorder(std::string path, uint64_t disk_size_bytes,
                                 std::chrono::milliseconds window)
    : path_(std::move(path)),
      disk_size_bytes_(disk_size_bytes),
      window_(window),
      seen_(std::min<uint64_t>(divide_up(disk_size_bytes, kBootSetGranuleSizeBytes), UINT32_MAX)) {}

BootSetRecorder::~BootSetRecorder() {
  if (const Status status = finish(); !status.ok())
    log_warning("the boot set {} was not saved: {}", path_, status.error().message());
}

void BootSetRecorder::note_read(disk::Range range) {
  if (!recording_ || range.size_bytes == 0) return;
  bool over = false;
  {
    const std::lock_guard lock(mutex_);
    if (!since_first_read_) since_first_read_.emplace();
    over = since_first_read_->elapsed() >= window_;
    const uint64_t last = (range.end_bytes() - 1) / kBootSetGranuleSizeBytes;
    for (uint64_t at = range.offset_bytes / kBootSetGranuleSizeBytes;
         !over && at <= last && at < seen_.size(); ++at) {
      if (seen_[at]) continue;
      seen_[at] = true;
      granules_.push_back(static_cast<uint32_t>(at));
      over = granules_.size() == kBootSetEntriesMax;
    }
  }
  if (!over) return;
  if (const Status status = finish(); !status.ok())
    log_warning("the boot set {} was not saved: {}", path_, status.error().message());
}

Status BootSetRecorder::finish() {
  if (!recording_.exchange(false)) return {};
  std::vector<uint32_t> granules;
  {
    const std::lock_guard lock(mutex_);
    granules.swap(granules_);
  }
  return granules.empty() ? ok_status() : save(granules);
}

Status BootSetRecorder::save(const std::vector<uint32_t>& granules) const {
  Bytes content;
  ByteWriter out(content);
  out.raw(as_bytes(kMagic));
  out.u32(kVersion);
  out.u32(static_cast<uint32_t>(granules.size()));
  out.u64(disk_size_bytes_);
  for (const uint32_t granule : granules) out.u32(granule);
  return os::write_file_durably(path_, content);
}

}  // namespace reclo::image
