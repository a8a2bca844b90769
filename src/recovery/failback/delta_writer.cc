#include "recovery/failback/delta_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include "base/channel.h"
#include "base/kill_point.h"
#include "base/task_pool.h"
#include "os/random.h"

namespace reclo::recovery {
namespace {

constexpr size_t kQueueCapacity = 1024;

// How much of a block lies inside the disk; the volume is rounded up to a GiB.
size_t inside_bytes(uint32_t index, uint64_t disk_size_bytes) {
  const uint64_t at = uint64_t{index} * cloud::kEbsBlockSizeBytes;
  return std::min<uint64_t>(cloud::kEbsBlockSizeBytes,
                            disk_size_bytes - std::min(at, disk_size_bytes));
}

class SpanSet {
 public:
  explicit SpanSet(const std::vector<BlockSpan>& spans) : spans_(spans) {}
  // `index` ascends from call to call.
  bool contains(uint32_t index) {
    while (at_ < spans_.size() && spans_[at_].end <= index) ++at_;
    return at_ < spans_.size() && spans_[at_].first <= index;
  }

 private:
  const std::vector<BlockSpan>& spans_;
  size_t at_ = 0;
};

// What the lister and the writing threads of one job share.
struct Shared {
  Shared(cloud::EbsClient& ebs_client, const DeltaJob& wanted, disk::BlockSink& target,
         ProgressSink& watcher)
      : ebs(ebs_client), job(wanted), sink(target), progress(watcher) {}
  cloud::EbsClient& ebs;
  const DeltaJob& job;
  disk::BlockSink& sink;
  ProgressSink& progress;
  Channel<cloud::BlockToken> queue{kQueueCapacity};  // an empty token: the block reads as zeros
  std::atomic<uint64_t> blocks = 0;
  std::atomic<uint64_t> bytes = 0;
  std::mutex mutex;
  std::vector<WrittenBlock> written;
};

// For a block that nobody lists: zeros.
Status push(Shared& shared, uint32_t index, const std::string& token, const CancelToken& cancel) {
  if (inside_bytes(index, shared.job.disk_size_bytes) == 0) return {};
  if (shared.queue.push({index, token}, cancel)) return {};
  RECLO_TRY(cancel.check());
  return Error(Code::kCancelled, "writing blocks was stopped");
}

// What differs, without what `extra_blocks` asks for anyway.
Status list_changes(Shared& shared, const CancelToken& cancel) {
  SpanSet extra(shared.job.extra_blocks);
  return shared.ebs.list_changed_blocks(
      *shared.job.from, shared.job.to,
      [&](const cloud::ChangedBlock& block) -> Status {
        if (extra.contains(block.index)) return {};
        return push(shared, block.index, block.second_token, cancel);
      },
      cancel);
}

// The blocks of `spans` as the snapshot has them; those that it does not have are zeros.
Status list_spans(Shared& shared, const std::vector<BlockSpan>& spans, const CancelToken& cancel) {
  SpanSet wanted(spans);
  std::vector<BlockSpan> left = spans;
  size_t at = 0;
  const auto zeros_up_to = [&](uint32_t end) -> Status {
    for (; at < left.size() && left[at].first < end; ++at) {
      for (; left[at].first < std::min(left[at].end, end); ++left[at].first)
        RECLO_TRY(push(shared, left[at].first, "", cancel));
      if (left[at].first < left[at].end) break;
    }
    return {};
  };
  const Status listed = shared.ebs.list_blocks(
      shared.job.to,
      [&](const cloud::BlockToken& block) -> Status {
        if (!wanted.contains(block.index)) return {};
        RECLO_TRY(zeros_up_to(block.index));
        ++left[at].first;
        return push(shared, block.index, block.token, cancel);
      },
      cancel);
  RECLO_TRY(listed);
  return zeros_up_to(UINT32_MAX);
}

Status write_one(Shared& shared, const cloud::BlockToken& block, const CancelToken& cancel) {
  const uint64_t at = uint64_t{block.index} * cloud::kEbsBlockSizeBytes;
  const size_t size = inside_bytes(block.index, shared.job.disk_size_bytes);
  Bytes data(size, 0);
  if (!block.token.empty()) {
    RECLO_ASSIGN_OR_RETURN(data, shared.ebs.get_block(shared.job.to, block, cancel));
    shared.bytes += data.size();
    data.resize(size);
  }
  if (is_all_zero(data)) {
    RECLO_TRY(shared.sink.write_zeros(at, size));
  } else {
    RECLO_TRY(shared.sink.write_at(at, data));
  }
  if (shared.job.remember) {
    const WrittenBlock written{block.index, net::sha256(data)};
    const std::lock_guard lock(shared.mutex);
    if (shared.written.size() < kRememberedMax) shared.written.push_back(written);
  }
  RECLO_KILL_POINT("failback.block_written");
  ProgressUpdate update;
  update.stage = "bringing blocks home";
  update.done_bytes = ++shared.blocks * cloud::kEbsBlockSizeBytes;
  update.uploaded_bytes = shared.bytes;
  shared.progress.update(update);
  return {};
}

Status write_blocks(Shared& shared, const CancelToken& cancel) {
  while (const auto block = shared.queue.pop(cancel)) RECLO_TRY(write_one(shared, *block, cancel));
  return cancel.check();
}

Status compare(const Bytes& expected, uint32_t index, disk::BlockSink& sink) {
  Bytes found(expected.size());
  RECLO_TRY(sink.read_at(uint64_t{index} * cloud::kEbsBlockSizeBytes, found));
  if (found == expected) return {};
  return Error(Code::kCorruption, fmt::format("block {} of {} is not what the instance's volume "
                                              "holds",
                                              index, sink.path()));
}

// Random blocks of the snapshot's, and random ones of the disk that the snapshot may not have.
struct Sample {
  std::vector<cloud::BlockToken> data;
  std::set<uint32_t> zeros;
};

Result<Sample> take_sample(cloud::EbsClient& ebs, const VerifyJob& job, const CancelToken& cancel) {
  Sample out;
  const uint64_t disk_blocks = divide_up(job.disk_size_bytes, cloud::kEbsBlockSizeBytes);
  for (size_t i = 0; i < job.sample_blocks / 4 && disk_blocks > 0; ++i)
    out.zeros.insert(static_cast<uint32_t>(os::random_below(disk_blocks)));
  uint64_t seen = 0;
  RECLO_TRY(ebs.list_blocks(
      job.snapshot,
      [&](const cloud::BlockToken& block) -> Status {
        out.zeros.erase(block.index);
        if (inside_bytes(block.index, job.disk_size_bytes) == 0) return {};
        const uint64_t place = os::random_below(++seen);
        if (out.data.size() < job.sample_blocks) {
          out.data.push_back(block);
        } else if (place < out.data.size()) {
          out.data[place] = block;
        }
        return {};
      },
      cancel));
  return out;
}

}  // namespace

Result<DeltaReport> write_delta(cloud::EbsClient& ebs, const DeltaJob& job, disk::BlockSink& sink,
                                ProgressSink& progress, const CancelToken& cancel) {
  Shared shared(ebs, job, sink, progress);
  const auto blocks =
      static_cast<uint32_t>(divide_up(job.disk_size_bytes, cloud::kEbsBlockSizeBytes));
  {
    const size_t threads = std::max<size_t>(job.threads, 1);
    TaskPool pool(threads + 1);
    TaskGroup group(pool, cancel);
    group.spawn([&]() -> Status {
      Status listed = job.from ? list_changes(shared, group.token()) : Status();
      if (listed.ok())
        listed = list_spans(shared, job.from ? job.extra_blocks : std::vector{BlockSpan{0, blocks}},
                            group.token());
      shared.queue.close();
      return listed;
    });
    for (size_t i = 0; i < threads; ++i)
      group.spawn([&]() -> Status { return write_blocks(shared, group.token()); });
    RECLO_TRY_WITH(group.wait(), job.to.text());
  }
  RECLO_TRY(sink.flush());
  DeltaReport report;
  report.blocks = shared.blocks;
  report.bytes = shared.bytes;
  report.written = std::move(shared.written);
  return report;
}

Result<uint64_t> verify_blocks(cloud::EbsClient& ebs, const VerifyJob& job,
                               const std::vector<WrittenBlock>& written, disk::BlockSink& sink,
                               const CancelToken& cancel) {
  uint64_t compared = 0;
  Bytes block;
  for (const WrittenBlock& one : written) {
    RECLO_TRY(cancel.check());
    block.resize(inside_bytes(one.index, job.disk_size_bytes));
    RECLO_TRY(sink.read_at(uint64_t{one.index} * cloud::kEbsBlockSizeBytes, block));
    if (net::sha256(block) != one.sha256)
      return Error(Code::kCorruption, fmt::format("block {} of {} reads back as something else "
                                                  "than was written",
                                                  one.index, sink.path()));
    ++compared;
  }
  RECLO_ASSIGN_OR_RETURN(const Sample sample, take_sample(ebs, job, cancel));
  for (const cloud::BlockToken& one : sample.data) {
    RECLO_ASSIGN_OR_RETURN(block, ebs.get_block(job.snapshot, one, cancel));
    block.resize(inside_bytes(one.index, job.disk_size_bytes));
    RECLO_TRY(compare(block, one.index, sink));
    ++compared;
  }
  for (const uint32_t index : sample.zeros) {
    RECLO_TRY(compare(Bytes(inside_bytes(index, job.disk_size_bytes), 0), index, sink));
    ++compared;
  }
  return compared;
}

}  // namespace reclo::recovery
