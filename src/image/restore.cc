#include "image/restore.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "base/channel.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/task_pool.h"
#include "base/time.h"
#include "image/cached_store.h"
#include "image/restore_journal.h"
#include "image/segment_restorer.h"

namespace reclo::image {
namespace {

// Twelve hide a distant store's latency; sixteen are what the memory budget allows.
constexpr size_t kThreadsMin = 12;
constexpr size_t kThreadsMax = 16;
constexpr uint64_t kHoleSegmentsMax = 64;
// One damaged inner node of the lowest level hides this many segments.
constexpr uint64_t kWalkSegments = kMapFanOut;

struct Work {
  uint64_t first_segment = 0;
  uint64_t end_segment = 0;  // more than one for holes only
  std::optional<repo::NodeRef> leaf;
  std::optional<Error> damage;  // the map is damaged here
};

uint64_t target_number(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return 0;
  return S_ISBLK(info.st_mode) ? info.st_rdev : info.st_ino;
}

// Runs `read`, and once more past every cache when what came was damaged.
template <class Read>
auto read_twice(const Read& read) -> decltype(read()) {
  auto result = read();
  if (result.ok() || result.error().code() != Code::kCorruption) return result;
  const CacheRefresh refresh;
  auto again = read();
  if (again.ok()) log_warning("{}; fetched again, the bytes are good", result.error().message());
  return again;
}

class Restore {
 public:
  Restore(repo::MapReader& maps, const RestoreJob& job, disk::BlockSink& sink,
          const RestoreOptions& options, ProgressSink& progress)
      : maps_(maps),
        map_(repo::MapRoot::of(job.disk)),
        size_bytes_(job.disk.size_bytes),
        segment_count_(divide_up(size_bytes_, kSegmentSizeBytes)),
        sink_(sink),
        options_(options),
        progress_(progress),
        threads_(options.threads != 0 ? options.threads
                                      : std::clamp(usable_cpu_count(), kThreadsMin, kThreadsMax)),
        journal_(RestoreJournal::open(
            options.journal_path,
            {job.point, job.disk_index, size_bytes_, target_number(sink.path())},
            sink.starts_zeroed())),
        target_is_zero_(sink.starts_zeroed() || journal_.target_was_new()),
        queue_(threads_) {}

  Result<RestoreReport> run(const CancelToken& cancel);

 private:
  Status walk(const CancelToken& cancel);
  Status walk_part(uint64_t first, uint64_t end, const CancelToken& cancel);
  Status push_leaf(uint64_t segment, const repo::NodeRef& leaf, const CancelToken& cancel);
  Status push_holes_to(uint64_t segment, const CancelToken& cancel);
  Status push(Work work, const CancelToken& cancel);
  Status work_loop(const CancelToken& cancel);
  Status do_work(SegmentRestorer& restorer, const Work& work, const CancelToken& cancel);
  void account(const Work& work, SegmentOutcome outcome);
  Status save_journal_sometimes();
  void merge_damage();
  disk::Range range_of(const Work& work) const {
    const uint64_t start = work.first_segment * kSegmentSizeBytes;
    return {start, std::min(work.end_segment * kSegmentSizeBytes, size_bytes_) - start};
  }

  repo::MapReader& maps_;
  const repo::MapRoot map_;
  const uint64_t size_bytes_;
  const uint64_t segment_count_;
  disk::BlockSink& sink_;
  const RestoreOptions options_;
  ProgressSink& progress_;
  const size_t threads_;
  RestoreJournal journal_;
  const bool target_is_zero_;
  Channel<Work> queue_;
  uint64_t next_segment_ = 0;  // of the walk

  std::mutex mutex_;
  RestoreReport report_;
  std::vector<DamagedRange> damaged_;
  uint64_t done_bytes_ = 0;
  std::mutex journal_mutex_;
  Stopwatch since_journal_;
};

Result<RestoreReport> Restore::run(const CancelToken& cancel) {
  const Stopwatch watch;
  report_.size_bytes = size_bytes_;
  report_.resumed_bytes = done_bytes_ = journal_.finished_before_bytes();
  if (map_.root) {
    // With the root gone nothing can be restored: better no result than a disk of zeros.
    Status root;
    if (map_.height > 0) {
      const auto node = read_twice([&] { return maps_.inner(*map_.root, map_.height, cancel); });
      if (!node.ok()) root = node.error();
    }
    RECLO_TRY_WITH(root, "the root of this disk's block map");
  }
  RECLO_TRY_WITH(journal_.save(sink_), "the restore's journal");

  TaskPool pool(threads_);
  TaskGroup group(pool, cancel);
  for (size_t i = 0; i < threads_; ++i) group.spawn([&] { return work_loop(group.token()); });
  const Status walked = walk(group.token());
  if (walked.ok())
    queue_.close();
  else
    queue_.abort();
  Status status = group.wait();
  if (status.ok()) status = walked;
  if (status.ok()) status = sink_.flush();
  if (!status.ok()) {
    ignore_error(journal_.save(sink_), "the first error is the one to tell");
    // Threads that were stopped because another one failed say "cancelled".
    if (status.error().code() == Code::kCancelled) RECLO_TRY(cancel.check());
    return status.error();
  }
  merge_damage();
  if (report_.damaged.empty())
    RECLO_TRY(journal_.remove());
  else
    RECLO_TRY(journal_.save(sink_));
  report_.duration_s = watch.seconds();
  return report_;
}

Status Restore::walk(const CancelToken& cancel) {
  for (uint64_t first = 0; first < segment_count_; first += kWalkSegments)
    RECLO_TRY(walk_part(first, std::min(first + kWalkSegments, segment_count_), cancel));
  return push_holes_to(segment_count_, cancel);
}

Status Restore::walk_part(uint64_t first, uint64_t end, const CancelToken& cancel) {
  const auto visit = [&](uint64_t segment, const repo::NodeRef& leaf) {
    return segment < next_segment_ ? ok_status() : push_leaf(segment, leaf, cancel);
  };
  const Status walked =
      read_twice([&] { return maps_.for_each_leaf(map_, first, end, visit, cancel); });
  if (walked.ok() || !is_damage(walked.error())) return walked;
  // Some inner node is damaged: ask for each segment that was not reached, one by one.
  for (uint64_t segment = std::max(first, next_segment_); segment < end; ++segment) {
    RECLO_TRY(cancel.check());
    const auto leaf = maps_.find_leaf_ref(map_, segment, cancel);
    if (leaf.ok()) {
      if (*leaf) RECLO_TRY(push_leaf(segment, **leaf, cancel));
      continue;
    }
    if (!is_damage(leaf.error())) return leaf.error();
    RECLO_TRY(push_holes_to(segment, cancel));
    next_segment_ = segment + 1;
    if (!journal_.finished_before(segment))
      RECLO_TRY(push({segment, segment + 1, std::nullopt, leaf.error()}, cancel));
  }
  return {};
}

Status Restore::push_leaf(uint64_t segment, const repo::NodeRef& leaf, const CancelToken& cancel) {
  if (segment >= segment_count_)
    return Error(Code::kCorruption, "the block map reaches past the disk's end");
  RECLO_TRY(push_holes_to(segment, cancel));
  next_segment_ = segment + 1;
  if (journal_.finished_before(segment)) return {};
  return push({segment, segment + 1, leaf, std::nullopt}, cancel);
}

Status Restore::push_holes_to(uint64_t segment, const CancelToken& cancel) {
  while (next_segment_ < segment) {
    if (journal_.finished_before(next_segment_)) {
      ++next_segment_;
      continue;
    }
    Work hole{next_segment_, next_segment_, std::nullopt, std::nullopt};
    while (hole.end_segment < segment && !journal_.finished_before(hole.end_segment) &&
           hole.end_segment - hole.first_segment < kHoleSegmentsMax)
      ++hole.end_segment;
    next_segment_ = hole.end_segment;
    RECLO_TRY(push(std::move(hole), cancel));
  }
  return {};
}

Status Restore::push(Work work, const CancelToken& cancel) {
  if (queue_.push(std::move(work), cancel)) return {};
  return Error(Code::kCancelled, "the restore was stopped");
}

Status Restore::work_loop(const CancelToken& cancel) {
  SegmentRestorer restorer(maps_.slots(), sink_, target_is_zero_, options_.update);
  while (const auto work = queue_.pop(cancel)) {
    RECLO_TRY(do_work(restorer, *work, cancel));
    RECLO_TRY(save_journal_sometimes());
  }
  return cancel.check();
}

Status Restore::do_work(SegmentRestorer& restorer, const Work& work, const CancelToken& cancel) {
  const disk::Range range = range_of(work);
  std::optional<Error> damage = work.damage;
  if (work.leaf) {
    const auto leaf = read_twice([&] { return maps_.leaf(*work.leaf, cancel); });
    if (leaf.ok()) {
      RECLO_ASSIGN_OR_RETURN(SegmentOutcome outcome, restorer.restore(range, **leaf, cancel));
      account(work, std::move(outcome));
      return {};
    }
    if (!is_damage(leaf.error())) return leaf.error();
    damage = leaf.error();
  }
  RECLO_ASSIGN_OR_RETURN(SegmentOutcome outcome, restorer.restore_hole(range, cancel));
  if (damage) outcome.damaged.push_back({range, *damage});
  account(work, std::move(outcome));
  return {};
}

void Restore::account(const Work& work, SegmentOutcome outcome) {
  if (outcome.damaged.empty())
    for (uint64_t segment = work.first_segment; segment < work.end_segment; ++segment)
      journal_.finish(segment);
  const std::lock_guard lock(mutex_);
  report_.written_bytes += outcome.written_bytes;
  report_.fetched_bytes += outcome.fetched_bytes;
  report_.skipped_bytes += outcome.skipped_bytes;
  for (SegmentDamage& damage : outcome.damaged) {
    report_.damaged_bytes += damage.range.size_bytes;
    if (damaged_.size() < kDamagedRangesMax)
      damaged_.push_back({damage.range, std::move(damage.error)});
  }
  done_bytes_ += range_of(work).size_bytes;
  ProgressUpdate update;
  update.stage = "restoring";
  update.done_bytes = done_bytes_;
  update.total_bytes = size_bytes_;
  update.uploaded_bytes = report_.fetched_bytes;
  progress_.update(update);
}

Status Restore::save_journal_sometimes() {
  if (options_.journal_path.empty()) return {};
  const std::unique_lock lock(journal_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || since_journal_.elapsed() < options_.journal_interval) return {};
  RECLO_TRY_WITH(journal_.save(sink_), "the restore's journal");
  since_journal_.restart();
  return {};
}

void Restore::merge_damage() {
  std::ranges::sort(damaged_, {}, [](const DamagedRange& one) { return one.range.offset_bytes; });
  for (DamagedRange& one : damaged_) {
    DamagedRange* last = report_.damaged.empty() ? nullptr : &report_.damaged.back();
    if (last != nullptr && last->range.end_bytes() == one.range.offset_bytes &&
        last->error.message() == one.error.message())
      last->range.size_bytes += one.range.size_bytes;
    else
      report_.damaged.push_back(std::move(one));
  }
}

}  // namespace

Result<RestoreReport> restore_disk(repo::MapReader& maps, const RestoreJob& job,
                                   disk::BlockSink& sink, const RestoreOptions& options,
                                   ProgressSink& progress, const CancelToken& cancel) {
  Restore restore(maps, job, sink, options, progress);
  return restore.run(cancel);
}

Status damage_status(const RestoreReport& report) {
  if (report.damaged.empty()) return {};
  constexpr size_t kShownMax = 10;
  std::string text = fmt::format(
      "{} of the disk could not be restored and read as zeros; the rest is complete. Damaged:",
      format_bytes(report.damaged_bytes));
  for (size_t i = 0; i < std::min(report.damaged.size(), kShownMax); ++i) {
    const DamagedRange& one = report.damaged[i];
    text += fmt::format("\n  bytes {} to {}: {}", one.range.offset_bytes, one.range.end_bytes() - 1,
                        one.error.message());
  }
  if (report.damaged.size() > kShownMax)
    text += fmt::format("\n  and {} more ranges", report.damaged.size() - kShownMax);
  return Error(Code::kCorruption, text);
}

}  // namespace reclo::image
