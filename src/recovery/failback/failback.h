// A recovered server comes home: what it wrote in the meantime goes onto a disk here, in rounds
// that get shorter, and the last one after it was stopped.
//
//   seed:     record ─▶ base restored (what the target holds is not fetched) ─▶ a round
//   cutover:  stopping ─▶ instance stopped ─▶ last round, read back ─▶ prepared for home ─▶ done
//
// The record is on disk before each act and after it, so that a crash anywhere costs repeating what
// was begun: writing a block, stopping an instance, deleting a snapshot are all harmless twice. A
// snapshot is found again by its tags. Until the last round is proven nothing that the target was
// compared with is removed; the instance is stopped, and never removed, here.
// Thread rule: one thread at a time; the failback's lock keeps other processes out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "disk/block_sink.h"
#include "image/restore.h"
#include "recovery/failback/failback_store.h"

namespace reclo::recovery {

/// The recovery point that the instance was started from.
class FailbackBase {
 public:
  virtual ~FailbackBase() = default;
  /// Makes the target hold the point's disk, fetching only what it does not hold. Goes on where an
  /// earlier attempt ended.
  virtual Result<image::RestoreReport> restore(uint32_t disk, disk::BlockSink& sink,
                                               const std::string& journal_path,
                                               ProgressSink& progress,
                                               const CancelToken& cancel) = 0;
};

/// One disk's part of a round.
struct RoundJob {
  FailbackRecord& record;
  FailbackDisk& disk;
  disk::BlockSink& sink;
  bool last = false;                   // the instance is stopped: also verify
  std::function<Status()> save;        // makes the record durable
  uint64_t& verified;                  // blocks that were compared
  std::vector<std::string>& warnings;  // for people
};

/// Where the server runs now.
class FailbackSource {
 public:
  virtual ~FailbackSource() = default;
  /// Whether the disk's target must hold the recovery point first.
  virtual Result<bool> needs_base(const FailbackDisk& disk) = 0;
  /// Writes what the instance changed since the last round; the same call again after an error goes
  /// on. The caller notes the round, and calls clean() afterwards.
  virtual Result<FailbackRound> bring_home(const RoundJob& job, ProgressSink& progress,
                                           const CancelToken& cancel) = 0;
  /// Until it is stopped. Success when it is.
  virtual Status stop(const FailbackRecord& record, ProgressSink& progress,
                      const CancelToken& cancel) = 0;
  /// Removes what earlier rounds left, and with `all` everything that was made for this failback.
  virtual Status clean(FailbackRecord& record, bool all, const std::function<Status()>& save,
                       const CancelToken& cancel) = 0;
};

/// What a failback is given. `base` is called when a disk needs it only; `undo_preparation` gets
/// the targets, is idempotent, and tells people what it did.
struct FailbackParts {
  std::function<Result<FailbackBase*>(const CancelToken& cancel)> base;
  FailbackSource* source = nullptr;
  std::function<Result<std::vector<std::string>>(const std::vector<std::string>& targets,
                                                 const CancelToken& cancel)>
      undo_preparation;
};

struct FailbackReport {
  FailbackRecord record;
  std::vector<FailbackRound> rounds;  // of this call
  uint64_t base_fetched_bytes = 0;
  uint64_t base_written_bytes = 0;
  double base_seconds = 0;
  uint64_t verified_blocks = 0;
  std::vector<std::string> warnings;
  std::vector<std::string> notes;  // what undoing the preparation did
};

class Failback {
 public:
  /// Goes on with the failback of the record's id; one without an id is begun. Takes its lock.
  /// Errors: kConflict.
  static Result<Failback> open(const FailbackStore& store, FailbackRecord record,
                               FailbackParts parts);

  /// One round, or the rest of an interrupted one. Errors: kConflict once a cutover has begun, or
  /// when a target is another disk than before.
  Result<FailbackReport> seed(ProgressSink& progress, const CancelToken& cancel);
  Result<FailbackReport> cutover(ProgressSink& progress, const CancelToken& cancel);
  /// Removes all that was made in the cloud; the targets stay as they are.
  Status abandon(const CancelToken& cancel);

 private:
  Failback(const FailbackStore& store, FailbackRecord record, FailbackParts parts,
           os::FileLock lock)
      : store_(store),
        record_(std::move(record)),
        parts_(std::move(parts)),
        lock_(std::move(lock)) {}

  Status save() { return store_.save(record_); }
  Status move_to(FailbackState state);
  bool round_is_complete() const;
  Status begin_round();
  Status do_round(FailbackReport& report, ProgressSink& progress, const CancelToken& cancel);
  Status do_disk(FailbackDisk& disk, FailbackReport& report, ProgressSink& progress,
                 const CancelToken& cancel);
  Status restore_base(FailbackDisk& disk, disk::BlockSink& sink, FailbackReport& report,
                      ProgressSink& progress, const CancelToken& cancel);
  Status do_last_round(FailbackReport& report, ProgressSink& progress, const CancelToken& cancel);

  const FailbackStore& store_;
  FailbackRecord record_;
  FailbackParts parts_;
  os::FileLock lock_;
};

/// What is wrong with a target before anything is written to it: in use, too small, of another
/// size. `force` as in disk::SinkOptions. Errors: kConflict, kInvalidArgument, kAlreadyExists.
Status check_target(const std::string& path, uint64_t disk_size_bytes, bool force);

}  // namespace reclo::recovery
