#include "image/restore_journal.h"

#include <algorithm>

#include "crypto/hash.h"
#include "os/file.h"

namespace reclo::image {
namespace {

constexpr std::string_view kMagic = "RCLORSTR";
constexpr uint32_t kVersion = 1;
constexpr size_t kDigestSize = 32;
// One bit for each segment of the largest disk would be 512 MiB; nobody restores that to one
// target.
constexpr uint64_t kJournalSizeBytesMax = 64 * kMiB;

}  // namespace

RestoreJournal::RestoreJournal(std::string path, const JournalIdentity& identity)
    : path_(std::move(path)),
      identity_(identity),
      before_(divide_up(identity.disk_size_bytes, kSegmentSizeBytes)),
      done_(before_.size()) {}

RestoreJournal::RestoreJournal(RestoreJournal&& other) noexcept
    : path_(other.path_),
      identity_(other.identity_),
      target_was_new_(other.target_was_new_),
      before_(std::move(other.before_)),
      done_(std::move(other.done_)) {}

RestoreJournal RestoreJournal::open(const std::string& path, const JournalIdentity& identity,
                                    bool target_is_new) {
  RestoreJournal journal(path, identity);
  if (path.empty() || target_is_new || !journal.load()) {
    journal.target_was_new_ = target_is_new;
    std::fill(journal.before_.begin(), journal.before_.end(), false);
  }
  journal.done_ = journal.before_;
  return journal;
}

// A journal that does not fit is not an error: everything is restored then.
bool RestoreJournal::load() {
  const auto content = os::read_file(path_, kJournalSizeBytesMax);
  if (!content.ok() || content->size() < kDigestSize) return false;
  const ByteSpan body = ByteSpan(*content).first(content->size() - kDigestSize);
  const crypto::Sha256Digest digest = crypto::sha256(body);
  if (!std::ranges::equal(digest, ByteSpan(*content).last(kDigestSize))) return false;
  ByteReader in(body);
  const ByteSpan magic = in.raw(kMagic.size());
  if (!in.ok() || as_text(magic) != kMagic || in.u32() != kVersion) return false;
  JournalIdentity found;
  found.disk_index = in.u32();
  in.copy_to(found.point.mutable_bytes());
  found.disk_size_bytes = in.u64();
  found.target = in.u64();
  target_was_new_ = in.u8() != 0;
  const ByteSpan bits = in.raw(divide_up(before_.size(), 8));
  if (!in.at_end() || found != identity_) return false;
  for (size_t i = 0; i < before_.size(); ++i) before_[i] = (bits[i / 8] >> (i % 8) & 1) != 0;
  return true;
}

Bytes RestoreJournal::encode(const std::vector<bool>& done) const {
  Bytes content;
  ByteWriter out(content);
  out.raw(as_bytes(kMagic));
  out.u32(kVersion);
  out.u32(identity_.disk_index);
  out.raw(identity_.point.bytes());
  out.u64(identity_.disk_size_bytes);
  out.u64(identity_.target);
  out.u8(target_was_new_ ? 1 : 0);
  Bytes bits(divide_up(done.size(), 8));
  for (size_t i = 0; i < done.size(); ++i)
    if (done[i]) bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | 1u << (i % 8));
  out.raw(bits);
  out.raw(crypto::sha256(content));
  return content;
}

uint64_t RestoreJournal::finished_before_bytes() const {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < before_.size(); ++i)
    if (before_[i])
      sum += std::min(kSegmentSizeBytes, identity_.disk_size_bytes - i * kSegmentSizeBytes);
  return sum;
}

void RestoreJournal::finish(uint64_t segment) {
  const std::lock_guard lock(mutex_);
  done_[segment] = true;
}

Status RestoreJournal::save(disk::BlockSink& sink) {
  if (path_.empty()) return {};
  std::vector<bool> done;
  {
    const std::lock_guard lock(mutex_);
    done = done_;
  }
  RECLO_TRY(sink.flush());
  return os::write_file_durably(path_, encode(done));
}

Status RestoreJournal::remove() { return path_.empty() ? ok_status() : os::remove_file(path_); }

}  // namespace reclo::image
