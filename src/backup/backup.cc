#include "backup/backup.h"

#include <fmt/format.h>

#include <algorithm>

#include "backup/backup_plan.h"
#include "backup/known_sessions.h"
#include "backup/map_pack_cache.h"
#include "backup/open_disks.h"
#include "backup/ordered_window.h"
#include "backup/pack_pipeline.h"
#include "backup/segment_processor.h"
#include "base/kill_point.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/version.h"
#include "repo/layout.h"
#include "repo/map_builder.h"

namespace reclo::backup {
namespace {

constexpr uint64_t kMapCacheSizeBytesMax = 512 * kMiB;
constexpr std::string_view kMapCacheFolder = "maps";
// A worker costs up to 13 MiB (its segment, and two results in the window): six of them, the packs
// under way and the maps stay below 256 MiB, and saturate a 10 Gbit/s uplink.
constexpr size_t kWorkersByDefaultMax = 6;

// Everything of one run, so that its steps can be functions of their own.
class BackupRun {
 public:
  BackupRun(const repo::Repository& repository, const BackupOptions& options, ServerState& state,
            ParentUse parent_use, ProgressSink& progress, const CancelToken& cancel)
      : repository_(repository),
        options_(options),
        state_(state),
        parent_use_(parent_use),
        progress_(progress),
        cancel_(cancel),
        hasher_(state.keys().map_key),
        map_cache_(repository.store(), state.path(kMapCacheFolder), kMapCacheSizeBytesMax),
        slot_reader_(map_cache_, repository.id(), state.keys().id, state.keys().map_key.clone(),
                     std::nullopt),
        map_reader_(slot_reader_) {}

  Result<BackupReport> run();
  /// Whether a failure may come from the parent's map.
  bool read_parent() const { return start_.parent.has_value() && session_ != nullptr; }

 private:
  Status begin_session();
  Result<repo::DiskRecord> back_up_disk(size_t disk_index, PackPipeline& packs, TaskGroup& group);
  PipelineContext context_for(size_t disk_index, PackPipeline& packs);
  Status assemble(size_t disk_index, OrderedWindow<SegmentResult>& window, PackPipeline& packs,
                  repo::MapBuilder& map, TagUpdates& updates, TaskGroup& group);
  Result<repo::Leaf> store_segment(SegmentResult& segment, size_t disk_index, PackPipeline& packs);
  Status back_up_disks(repo::PointRecord& record);
  void fill_statistics(repo::PointRecord& record) const;
  void report_progress(std::string_view stage, uint64_t disk_bytes_done);

  const repo::Repository& repository_;
  const BackupOptions& options_;
  ServerState& state_;
  const ParentUse parent_use_;
  ProgressSink& progress_;
  const CancelToken cancel_;
  const crypto::ContentHasher hasher_;
  MapPackCache map_cache_;
  repo::SlotReader slot_reader_;
  repo::MapReader map_reader_;

  const Stopwatch watch_;
  WallTime taken_ = wall_now();
  StartingPoint start_;
  std::vector<OpenDisk> disks_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<repo::SessionWriter> session_;
  std::unique_ptr<ChunkIndex> index_;
  Statistics statistics_;
  uint64_t total_bytes_ = 0;
  uint64_t done_disks_bytes_ = 0;
  std::vector<std::string> warnings_;
};

Status BackupRun::begin_session() {
  repo::SessionOptions session_options;
  if (start_.parent) session_options.pins = {start_.parent->record.id};
  if (start_.resume) {
    RECLO_ASSIGN_OR_RETURN(journal_, Journal::resume(state_.journal_path(), *start_.resume));
    session_options.resume = start_.resume->header.session;
    session_options.run = journal_->run();
    auto resumed = repo::SessionWriter::begin(repository_, state_.keys(), session_options, cancel_);
    if (resumed.ok()) {
      session_ = std::move(resumed).value();
      progress_.note("continuing the interrupted backup");
      return {};
    }
    if (resumed.error().code() != Code::kConflict) return std::move(resumed).error();
    // Given up by the repository's maintenance, or its parent is being removed.
    warnings_.push_back("the interrupted backup cannot be continued: " + resumed.error().message());
    start_.resume.reset();
    session_options.resume.reset();
    session_options.run = 0;
  }
  auto begun = repo::SessionWriter::begin(repository_, state_.keys(), session_options, cancel_);
  if (!begun.ok() && begun.error().code() == Code::kConflict) {
    // The parent is being removed: what only it holds must not be referred to.
    warnings_.push_back(begun.error().message() + ": this backup stores everything anew");
    start_.parent.reset();
    session_options.pins.clear();
    begun = repo::SessionWriter::begin(repository_, state_.keys(), session_options, cancel_);
  }
  if (!begun.ok()) return std::move(begun).error();
  session_ = std::move(begun).value();
  JournalHeader header;
  header.session = session_->id();
  if (start_.parent) header.parent = start_.parent->record.id;
  header.disks = disks_signature(disks_);
  RECLO_ASSIGN_OR_RETURN(journal_, Journal::create(state_.journal_path(), header));
  return {};
}

PipelineContext BackupRun::context_for(size_t disk_index, PackPipeline& packs) {
  OpenDisk& disk = disks_[disk_index];
  PipelineContext context;
  context.source = disk.source.get();
  context.plan = &disk.plan;
  context.disk_index = static_cast<uint16_t>(disk_index);
  context.hasher = &hasher_;
  context.parent_reader = &map_reader_;
  if (start_.parent)
    for (const repo::DiskRecord& old : start_.parent->record.disks)
      context.parent_roots.push_back(repo::MapRoot::of(old));
  context.parent_disk_index = disk.parent_index;
  context.parent_tags = disk.tags ? &*disk.tags : nullptr;
  context.index = index_.get();
  context.statistics = &statistics_;
  context.compression_level = &packs.compression_level();
  return context;
}

// Puts a segment's new chunks into packs and completes its leaf.
Result<repo::Leaf> BackupRun::store_segment(SegmentResult& segment, size_t disk_index,
                                            PackPipeline& packs) {
  repo::Leaf leaf = std::move(segment.kept);
  for (NewChunk& chunk : segment.chunks) {
    if (!chunk.existing) {
      // Another segment may have stored the same content since the worker looked.
      const auto known = index_->find(chunk.reference.id);
      if (known && known->stored && known->stored->pages == chunk.reference.pages) {
        chunk.reference = *known->stored;
      } else {
        RECLO_ASSIGN_OR_RETURN(
            chunk.reference.at,
            packs.add_chunk(chunk.reference.id, chunk.reference.pages, chunk.payload,
                            static_cast<uint16_t>(disk_index), segment.segment_index));
        index_->insert(chunk.reference, static_cast<uint16_t>(disk_index), segment.segment_index);
      }
    }
    add_chunk(leaf, chunk.reference, chunk.runs);
  }
  finish_leaf(leaf);
  return leaf;
}

void BackupRun::report_progress(std::string_view stage, uint64_t disk_bytes_done) {
  ProgressUpdate update;
  update.stage = stage;
  update.done_bytes = done_disks_bytes_ + disk_bytes_done;
  update.total_bytes = total_bytes_;
  update.uploaded_bytes = statistics_.uploaded_bytes;
  progress_.update(update);
}

Status BackupRun::assemble(size_t disk_index, OrderedWindow<SegmentResult>& window,
                           PackPipeline& packs, repo::MapBuilder& map, TagUpdates& updates,
                           TaskGroup& group) {
  while (auto segment = window.take(group.token())) {
    if (segment->leaf_changed) {
      RECLO_ASSIGN_OR_RETURN(const repo::Leaf leaf, store_segment(*segment, disk_index, packs));
      RECLO_TRY(map.set(segment->segment_index, leaf, group.token()));
    }
    if (segment->tags) RECLO_TRY(updates.append(segment->segment_index, *segment->tags));
    report_progress("backing up", (segment->segment_index + 1) * kSegmentSizeBytes);
  }
  return group.token().check();
}

Result<repo::DiskRecord> BackupRun::back_up_disk(size_t disk_index, PackPipeline& packs,
                                                 TaskGroup& group) {
  OpenDisk& disk = disks_[disk_index];
  const PipelineContext context = context_for(disk_index, packs);
  const uint64_t read_before = statistics_.read_bytes;
  const uint64_t allocated_before = statistics_.allocated_bytes;
  const uint64_t new_before = statistics_.new_bytes;

  const repo::MapRoot parent_root =
      disk.parent_index ? context.parent_roots[*disk.parent_index] : repo::MapRoot{};
  repo::MapBuilder map(disk.source->size_bytes(), parent_root, &map_reader_,
                       [&](ByteSpan node) { return packs.add_node(node); });
  RECLO_ASSIGN_OR_RETURN(TagUpdates updates,
                         TagUpdates::create(state_.tag_updates_path(disk_index), !disk.tags));
  const size_t workers = options_.workers != 0
                             ? options_.workers
                             : std::min(usable_cpu_count() + 1, kWorkersByDefaultMax);
  OrderedWindow<SegmentResult> window(disk.plan.segment_count(), workers * 2 + 2);
  {
    TaskPool pool(workers);
    TaskGroup working(pool, group.token());
    for (size_t i = 0; i < workers; ++i) {
      working.spawn([&]() -> Status {
        SegmentProcessor processor(context);
        while (const auto job = window.next_job(working.token())) {
          auto result = processor.process(*job, working.token());
          if (!result.ok()) return std::move(result).error().with(disk.source->path());
          window.put(*job, std::move(result).value());
        }
        return {};
      });
    }
    const Status assembled = assemble(disk_index, window, packs, map, updates, working);
    if (!assembled.ok()) working.stop();
    const Status worked = working.wait();
    // A worker's or uploader's failure is the cause; that the assembler was stopped is its effect.
    if (!worked.ok() && worked.error().code() != Code::kCancelled) return worked.error();
    RECLO_TRY(assembled);
    RECLO_TRY(worked);
  }

  repo::DiskRecord record;
  record.name = disk.source->path();
  record.format = disk.source->format();
  record.size_bytes = disk.source->size_bytes();
  RECLO_ASSIGN_OR_RETURN(const repo::MapRoot root, std::move(map).finish(group.token()));
  record.map_height = root.height;
  record.map_root = root.root;
  RECLO_TRY(updates.finish(root.root ? root.root->id : ChunkId()));
  record.read_bytes = statistics_.read_bytes - read_before;
  record.allocated_bytes = statistics_.allocated_bytes - allocated_before;
  record.new_bytes = statistics_.new_bytes - new_before;
  done_disks_bytes_ += disk.source->size_bytes();
  return record;
}

Status BackupRun::back_up_disks(repo::PointRecord& record) {
  PackPipeline::Parts parts;
  parts.session = session_.get();
  parts.journal = journal_.get();
  parts.map_cache = &map_cache_;
  parts.statistics = &statistics_;
  parts.hasher = &hasher_;
  parts.packs_prefix = repo::layout::packs_prefix(state_.keys().id, session_->id());
  CompressionPolicy policy;
  if (options_.compression_level != 0)
    policy = {options_.compression_level, options_.compression_level};

  TaskPool upload_pool(options_.upload_threads);
  TaskGroup uploads(upload_pool, cancel_);
  PackPipeline packs(parts, uploads, options_.upload_threads, policy);
  Status status;
  for (size_t i = 0; i < disks_.size() && status.ok(); ++i) {
    auto disk = back_up_disk(i, packs, uploads);
    if (disk.ok()) {
      record.disks.push_back(std::move(disk).value());
    } else {
      status = std::move(disk).error();
    }
  }
  if (status.ok()) {
    report_progress("uploading", 0);
    status = packs.finish();
  }
  if (!status.ok()) uploads.stop();
  const Status uploaded = uploads.wait();
  if (!uploaded.ok() && uploaded.error().code() != Code::kCancelled) return uploaded;
  RECLO_TRY(status);
  return uploaded;
}

void BackupRun::fill_statistics(repo::PointRecord& record) const {
  repo::PointStatistics& out = record.statistics;
  out.stored_bytes = statistics_.stored_bytes;
  out.map_bytes = statistics_.map_bytes;
  out.uploaded_bytes = statistics_.uploaded_bytes;
  out.put_requests = statistics_.put_requests;
  out.duration_ms = static_cast<uint64_t>(watch_.seconds() * 1000);
  uint64_t most = 0;
  for (size_t i = 0; i < kStageNames.size(); ++i) {
    const uint64_t ms = statistics_.busy_ns[i] / 1000000;
    out.stages.push_back({std::string(kStageNames[i]), ms});
    if (ms >= most) {
      most = ms;
      out.slowest_stage = kStageNames[i];
    }
  }
}

Result<BackupReport> BackupRun::run() {
  RECLO_ASSIGN_OR_RETURN(disks_, open_disks(options_.disks, cancel_));
  for (const OpenDisk& disk : disks_) total_bytes_ += disk.source->size_bytes();
  RECLO_ASSIGN_OR_RETURN(start_, find_starting_point(state_, repository_, disks_signature(disks_),
                                                     parent_use_, cancel_));
  warnings_ = start_.warnings;
  RECLO_TRY(begin_session());
  if (start_.parent)
    RECLO_TRY(match_parent_disks(disks_, start_.parent->record, state_, options_.full, warnings_));
  RECLO_ASSIGN_OR_RETURN(index_, ChunkIndex::open(state_.path("chunks.index"), session_->id()));
  if (start_.resume)
    for (const JournaledChunk& entry : start_.resume->chunks)
      index_->insert(entry.chunk, entry.disk_index, entry.segment_index);

  repo::PointRecord record;
  RECLO_TRY(back_up_disks(record));
  // Also one that changed its size after its last byte was read.
  for (const OpenDisk& disk : disks_) RECLO_TRY(disk.source->check_size());
  record.sequence = start_.newest ? start_.newest->record.sequence + 1 : 1;
  if (start_.newest) {
    record.previous = start_.newest->record.id;
    record.previous_digest = start_.newest->digest;
  }
  record.started = session_->started();
  record.taken = taken_;
  record.finished = wall_now();
  record.kind =
      start_.parent && !options_.full ? repo::PointKind::kIncremental : repo::PointKind::kFull;
  record.consistency = repo::Consistency::kCrash;
  record.program_version = kProgramVersion;
  fill_statistics(record);

  BackupReport report;
  RECLO_ASSIGN_OR_RETURN(report.point, session_->commit(std::move(record), cancel_));
  // From here on the point exists; what fails below costs the next backup time, not this one its
  // point.
  if (const Status finished = finish_commit(state_, report.point); !finished.ok())
    warnings_.push_back("the state folder could not be updated: " + finished.error().message());
  // After the point is remembered: with the other order a crash could hide points from the next
  // run.
  start_.sessions.insert(report.point.record.id);
  if (const Status kept = store_known_sessions(state_.path(kKnownSessionsFile), start_.sessions);
      !kept.ok())
    log_warning("{}", kept.error().message());
  if (const uint64_t damaged = statistics_.damaged_memories; damaged > 0)
    warnings_.push_back(
        fmt::format("the state folder's memory of {} segments is damaged; what changed there was "
                    "found by comparing whole chunks. Check the disk that holds {}",
                    damaged, options_.state_directory));
  report.resumed = start_.resume.has_value();
  report.warnings = std::move(warnings_);
  for (OpenDisk& disk : disks_) report.allocations.push_back(disk.plan.allocation());
  return report;
}

}  // namespace

Result<BackupReport> run_backup(const repo::Repository& repository, const BackupOptions& options,
                                ProgressSink& progress, const CancelToken& cancel) {
  if (options.disks.empty() || options.disks.size() > kDisksPerServerMax)
    return Error(Code::kInvalidArgument, fmt::format("give 1 to {} disks", kDisksPerServerMax));
  RECLO_ASSIGN_OR_RETURN(ServerState state,
                         ServerState::open(options.state_directory, repository, options.server,
                                           options.identity, cancel));
  const auto parent_may_be_damaged = [](const BackupRun& run, const Error& error) {
    return run.read_parent() &&
           (error.code() == Code::kCorruption || error.code() == Code::kNotFound);
  };
  {
    BackupRun run(repository, options, state, ParentUse::kNewest, progress, cancel);
    auto report = run.run();
    if (report.ok() || !parent_may_be_damaged(run, report.error())) return report;
    log_warning("trying again: {}", report.error().message());
  }
  // A map pack may have been damaged in the store when it was cached, and be whole there now.
  RECLO_TRY(os::remove_tree(state.path(kMapCacheFolder)));
  std::string why;
  {
    BackupRun run(repository, options, state, ParentUse::kNewest, progress, cancel);
    auto report = run.run();
    if (report.ok() || !parent_may_be_damaged(run, report.error())) return report;
    why = report.error().message();
  }
  BackupRun run(repository, options, state, ParentUse::kNone, progress, cancel);
  auto report = run.run();
  if (report.ok())
    report->warnings.push_back("the last recovery point's map is damaged (" + why +
                               "): this backup stored everything anew");
  return report;
}

}  // namespace reclo::backup
