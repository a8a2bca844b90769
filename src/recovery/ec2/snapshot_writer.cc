#include "recovery/ec2/snapshot_writer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/aligned.h"
#include "base/kill_point.h"
#include "base/task_pool.h"
#include "os/file.h"

namespace reclo::recovery {
namespace {

constexpr size_t kDigestSizeBytes = sizeof(net::Sha256);

// The next block of the spans, for many threads.
class BlockCursor {
 public:
  explicit BlockCursor(const std::vector<BlockSpan>& spans) : spans_(spans) {
    if (!spans_.empty()) next_ = spans_.front().first;
  }
  std::optional<uint32_t> take() {
    const std::lock_guard lock(mutex_);
    while (span_ < spans_.size() && next_ >= spans_[span_].end) {
      ++span_;
      if (span_ < spans_.size()) next_ = spans_[span_].first;
    }
    if (span_ == spans_.size()) return std::nullopt;
    return next_++;
  }

 private:
  const std::vector<BlockSpan>& spans_;
  std::mutex mutex_;
  size_t span_ = 0;
  uint32_t next_ = 0;
};

class DigestLog {
 public:
  static Result<DigestLog> open(const std::string& path) {
    RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(path, os::OpenMode::kCreate));
    return DigestLog(std::move(fd));
  }
  Result<bool> has(uint32_t index) const {
    RECLO_ASSIGN_OR_RETURN(const net::Sha256 digest, read(index));
    return !is_all_zero(digest);
  }
  Status set(uint32_t index, const net::Sha256& digest) {
    return os::write_at(fd_, uint64_t{index} * kDigestSizeBytes, digest);
  }
  Result<net::Sha256> read(uint32_t index) const {
    net::Sha256 digest{};
    const uint64_t at = uint64_t{index} * kDigestSizeBytes;
    // Past its end nothing was put yet; a cut write left half a digest, which counts as none.
    const ssize_t got = ::pread(fd_.get(), digest.data(), digest.size(), static_cast<off_t>(at));
    if (got < 0) return Error::from_errno(errno, "read the log of a snapshot");
    if (static_cast<size_t>(got) < digest.size()) digest = {};
    return digest;
  }

 private:
  explicit DigestLog(os::Fd fd) : fd_(std::move(fd)) {}
  os::Fd fd_;
};

struct Linear {
  net::Sha256 sha256{};
  uint32_t blocks = 0;
};

// SHA-256 over the digests of all blocks put, by ascending index.
Result<Linear> linear_checksum(const DigestLog& log, const std::vector<BlockSpan>& spans,
                               const CancelToken& cancel) {
  net::Sha256Stream sha256;
  Linear out;
  for (const BlockSpan& span : spans) {
    RECLO_TRY(cancel.check());
    for (uint32_t index = span.first; index < span.end; ++index) {
      RECLO_ASSIGN_OR_RETURN(const net::Sha256 digest, log.read(index));
      if (is_all_zero(digest)) continue;
      sha256.update(digest);
      ++out.blocks;
    }
  }
  out.sha256 = sha256.finish();
  return out;
}

// What all threads of one job share.
struct Shared {
  cloud::EbsClient& ebs;
  const SnapshotJob& job;
  const ReadDisk& read;
  ProgressSink& progress;
  DigestLog log;
  BlockCursor cursor;
  uint64_t total_bytes;
  std::atomic<uint32_t> done = 0;
  std::atomic<uint32_t> put = 0;
  std::atomic<uint32_t> resumed = 0;
};

Status put_one(Shared& shared, uint32_t index, MutableByteSpan block, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const bool there, shared.log.has(index));
  if (there) {
    ++shared.resumed;
    return {};
  }
  const uint64_t at = uint64_t{index} * cloud::kEbsBlockSizeBytes;
  const uint64_t disk_size = shared.job.disk_size_bytes;
  const size_t inside = std::min<uint64_t>(block.size(), disk_size - std::min(at, disk_size));
  RECLO_TRY(shared.read(at, block.first(inside), cancel));
  std::fill(block.begin() + static_cast<ptrdiff_t>(inside), block.end(), uint8_t{0});
  if (shared.job.leave_out_zeros && is_all_zero(block)) return {};
  RECLO_ASSIGN_OR_RETURN(const net::Sha256 digest,
                         shared.ebs.put_block(shared.job.snapshot, index, block, cancel));
  RECLO_TRY(shared.log.set(index, digest));
  ++shared.put;
  RECLO_KILL_POINT("standby.block_put");
  return {};
}

Status put_blocks(Shared& shared, const CancelToken& cancel) {
  const AlignedBuffer buffer = make_aligned_buffer(cloud::kEbsBlockSizeBytes);
  while (const auto index = shared.cursor.take()) {
    RECLO_TRY(cancel.check());
    RECLO_TRY(put_one(shared, *index, {buffer.get(), cloud::kEbsBlockSizeBytes}, cancel));
    ProgressUpdate update;
    update.stage = "putting blocks";
    update.done_bytes = uint64_t{++shared.done} * cloud::kEbsBlockSizeBytes;
    update.total_bytes = shared.total_bytes;
    update.uploaded_bytes = uint64_t{shared.put} * cloud::kEbsBlockSizeBytes;
    shared.progress.update(update);
  }
  return {};
}

}  // namespace

Result<SnapshotReport> write_snapshot(cloud::EbsClient& ebs, const SnapshotJob& job,
                                      const ReadDisk& read, ProgressSink& progress,
                                      const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(DigestLog log, DigestLog::open(job.log_path));
  Shared shared{ebs,
                job,
                read,
                progress,
                std::move(log),
                BlockCursor(job.spans),
                count_blocks(job.spans) * cloud::kEbsBlockSizeBytes};
  {
    const size_t threads = std::max<size_t>(job.threads, 1);
    TaskPool pool(threads);
    TaskGroup group(pool, cancel);
    for (size_t i = 0; i < threads; ++i)
      group.spawn([&]() -> Status { return put_blocks(shared, group.token()); });
    RECLO_TRY_WITH(group.wait(), job.snapshot.text());
  }
  RECLO_ASSIGN_OR_RETURN(const Linear linear, linear_checksum(shared.log, job.spans, cancel));
  RECLO_KILL_POINT("standby.before_complete");
  RECLO_TRY(ebs.complete(job.snapshot, linear.blocks, linear.sha256, cancel));
  RECLO_KILL_POINT("standby.completed");
  SnapshotReport report;
  report.blocks_put = linear.blocks;
  report.blocks_resumed = shared.resumed;
  return report;
}

}  // namespace reclo::recovery
