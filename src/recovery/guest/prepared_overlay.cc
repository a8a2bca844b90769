#include "recovery/guest/prepared_overlay.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"
#include "crypto/hash.h"
#include "os/file.h"
#include "os/random.h"

namespace reclo::recovery {
namespace {

constexpr std::string_view kMagic = "RECLOPRE";
constexpr uint32_t kVersion = 1;
constexpr size_t kSaltSizeBytes = 32;
constexpr size_t kHeadSizeBytes = 8 + 4 + 4 + kSaltSizeBytes;
constexpr size_t kFootSizeBytes = 8 + 8;
constexpr uint64_t kRecordSizeBytesMax = 64 * kMiB;
constexpr uint64_t kRecordCounter = 0;

crypto::Aead make_aead(const crypto::SecretKey& box, ByteSpan salt) {
  return crypto::Aead(crypto::derive_key(box, "reclo/prepared-overlay/1", salt));
}

std::string id_of(ByteSpan head) { return to_hex(head.last(kSaltSizeBytes).first(16)); }

Bytes sealed(crypto::Aead& aead, uint64_t counter, ByteSpan head, ByteSpan plain) {
  Bytes out(plain.size() + crypto::kAeadTagSize);
  aead.seal(counter, head, plain, out);
  return out;
}

}  // namespace

PreparedWriter::PreparedWriter(std::string path, std::string unfinished, os::Fd fd, Bytes head,
                               crypto::Aead aead)
    : path_(std::move(path)),
      unfinished_(std::move(unfinished)),
      id_(id_of(head)),
      fd_(std::move(fd)),
      head_(std::move(head)),
      aead_(std::move(aead)),
      size_bytes_(head_.size()) {}

Result<PreparedWriter> PreparedWriter::create(const std::string& path,
                                              const crypto::SecretKey& box) {
  RECLO_TRY(os::make_directories(os::parent_path(path)));
  const std::string unfinished =
      os::join_path(os::parent_path(path), std::string(os::kTempPrefix) + os::base_name(path));
  RECLO_TRY(os::remove_file(unfinished));
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(unfinished, os::OpenMode::kCreate));
  Bytes head;
  ByteWriter writer(head);
  writer.raw(as_bytes(kMagic));
  writer.u32(kVersion);
  writer.u32(0);
  Bytes salt(kSaltSizeBytes);
  os::fill_random(salt);
  writer.raw(salt);
  RECLO_TRY(os::write_at(fd, 0, head));
  return PreparedWriter(path, unfinished, std::move(fd), std::move(head), make_aead(box, salt));
}

Status PreparedWriter::add(uint32_t disk, uint64_t offset_bytes, ByteSpan data) {
  RECLO_CHECK(data.size() <= kPreparedFrameSizeBytes);
  if (size_bytes_ + data.size() > kPreparedSizeBytesMax)
    return Error(Code::kResourceExhausted,
                 fmt::format("the preparation changes more than {}: that is no preparation",
                             format_bytes(kPreparedSizeBytesMax)));
  runs_.push_back({disk, {offset_bytes, data.size()}});
  const Bytes frame = sealed(aead_, runs_.size(), head_, data);
  RECLO_TRY(os::write_at(fd_, size_bytes_, frame));
  size_bytes_ += frame.size();
  return {};
}

Status PreparedWriter::finish(PreparedRecord& record) {
  record.id = id_;
  record.runs = runs_;
  const std::string text = encode_prepared(record);
  Bytes end = sealed(aead_, kRecordCounter, head_, as_bytes(text));
  const uint64_t record_size = end.size();
  ByteWriter writer(end);
  writer.u64(record_size);
  writer.raw(as_bytes(kMagic));
  RECLO_TRY(os::write_at(fd_, size_bytes_, end));
  RECLO_TRY(os::fsync(fd_));
  return os::rename_durably(unfinished_, path_);
}

Result<std::unique_ptr<PreparedOverlay>> PreparedOverlay::open(const std::string& path,
                                                               const crypto::SecretKey& box) {
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  RECLO_ASSIGN_OR_RETURN(const uint64_t size, os::file_size_bytes(path));
  const Error damaged(Code::kCorruption,
                      fmt::format("{} is damaged, or was made for another repository", path));
  if (size < kHeadSizeBytes + kFootSizeBytes) return damaged;
  Bytes head(kHeadSizeBytes);
  RECLO_TRY(os::read_at(fd, 0, head));
  if (!as_text(head).starts_with(kMagic)) return damaged;
  const auto version = load_le<uint32_t>(head.data() + kMagic.size());
  if (version != kVersion)
    return Error(Code::kUnsupported, fmt::format("{} is of version {}, this program knows {}", path,
                                                 version, kVersion));
  Bytes foot(kFootSizeBytes);
  RECLO_TRY(os::read_at(fd, size - kFootSizeBytes, foot));
  const auto record_size = load_le<uint64_t>(foot.data());
  if (!as_text(foot).ends_with(kMagic) || record_size < crypto::kAeadTagSize ||
      record_size > kRecordSizeBytesMax || record_size > size - kHeadSizeBytes - kFootSizeBytes)
    return damaged;
  Bytes sealed_record(record_size);
  RECLO_TRY(os::read_at(fd, size - kFootSizeBytes - record_size, sealed_record));
  crypto::Aead aead = make_aead(box, ByteSpan(head).last(kSaltSizeBytes));
  Bytes text(record_size - crypto::kAeadTagSize);
  if (!aead.open(kRecordCounter, head, sealed_record, text).ok()) return damaged;
  std::unique_ptr<PreparedOverlay> out(
      new PreparedOverlay(std::move(fd), std::move(head), std::move(aead)));
  RECLO_ASSIGN_OR_RETURN(out->record_, decode_prepared(as_text(text)));
  uint64_t at = kHeadSizeBytes;
  for (const PreparedRun& run : out->record_.runs) {
    if (run.range.size_bytes > kPreparedFrameSizeBytes) return damaged;
    out->frame_offsets_.push_back(at);
    at += run.range.size_bytes + crypto::kAeadTagSize;
  }
  if (at != size - kFootSizeBytes - record_size || out->record_.id != id_of(out->head_))
    return damaged;
  return out;
}

std::vector<disk::Range> PreparedOverlay::ranges(uint32_t disk) const {
  std::vector<disk::Range> out;
  for (const PreparedRun& run : record_.runs) {
    if (run.disk != disk) continue;
    if (!out.empty() && out.back().end_bytes() == run.range.offset_bytes)
      out.back().size_bytes += run.range.size_bytes;
    else
      out.push_back(run.range);
  }
  return out;
}

Result<Bytes> PreparedOverlay::frame(size_t index) const {
  Bytes content(record_.runs[index].range.size_bytes);
  Bytes stored(content.size() + crypto::kAeadTagSize);
  RECLO_TRY(os::read_at(fd_, frame_offsets_[index], stored));
  const std::lock_guard guard(lock_);
  RECLO_TRY_WITH(aead_.open(index + 1, head_, stored, content), "the prepared overlay");
  return content;
}

Status PreparedOverlay::read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out) const {
  const uint64_t end = offset_bytes + out.size();
  // Runs are in the order of disks and addresses: the first that ends after the beginning.
  const auto first =
      std::partition_point(record_.runs.begin(), record_.runs.end(), [&](const PreparedRun& run) {
        return run.disk < disk || (run.disk == disk && run.range.end_bytes() <= offset_bytes);
      });
  for (auto run = first; run != record_.runs.end() && run->disk == disk; ++run) {
    if (run->range.offset_bytes >= end) break;
    RECLO_ASSIGN_OR_RETURN(const Bytes content,
                           frame(static_cast<size_t>(run - record_.runs.begin())));
    const uint64_t from = std::max(offset_bytes, run->range.offset_bytes);
    const uint64_t to = std::min(end, run->range.end_bytes());
    std::copy_n(content.begin() + static_cast<ptrdiff_t>(from - run->range.offset_bytes), to - from,
                out.begin() + static_cast<ptrdiff_t>(from - offset_bytes));
  }
  return {};
}

Status PreparedOverlay::apply_to(uint32_t disk, const std::string& path,
                                 const CancelToken& cancel) const {
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kReadWrite));
  const off_t end = ::lseek(fd.get(), 0, SEEK_END);
  if (end < 0) return Error::from_errno(errno, "measure " + path);
  if (disk >= record_.disk_sizes_bytes.size() ||
      static_cast<uint64_t>(end) < record_.disk_sizes_bytes[disk])
    return Error(Code::kInvalidArgument,
                 fmt::format("{} is smaller than disk {} of the recovery point", path, disk));
  for (size_t i = 0; i < record_.runs.size(); ++i) {
    if (record_.runs[i].disk != disk) continue;
    RECLO_TRY(cancel.check());
    RECLO_ASSIGN_OR_RETURN(const Bytes content, frame(i));
    RECLO_TRY_WITH(os::write_at(fd, record_.runs[i].range.offset_bytes, content), path);
  }
  return os::fsync(fd);
}

}  // namespace reclo::recovery
