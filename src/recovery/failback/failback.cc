#include "recovery/failback/failback.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "base/kill_point.h"
#include "base/time.h"
#include "base/units.h"
#include "disk/device_use.h"

namespace reclo::recovery {
namespace {

// Another disk under the same name must not pass for the one that was seeded.
Result<std::string> identity_of(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
  if (S_ISBLK(info.st_mode))
    return fmt::format("device {}:{}", major(info.st_rdev), minor(info.st_rdev));
  return fmt::format("file {}:{}", static_cast<uint64_t>(info.st_dev),
                     static_cast<uint64_t>(info.st_ino));
}

Result<uint64_t> target_size_bytes(const std::string& path, bool& is_device) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
  is_device = S_ISBLK(info.st_mode);
  if (!is_device) return static_cast<uint64_t>(info.st_size);
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  uint64_t size = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &size) != 0)
    return Error::from_errno(errno, "size of " + path);
  return size;
}

}  // namespace

Status check_target(const std::string& path, uint64_t disk_size_bytes, bool force) {
  if (!os::path_exists(path)) {
    const std::string folder = os::parent_path(path);
    if (!path.starts_with("/dev/") && os::is_directory(folder)) return {};
    return Error(Code::kNotFound, fmt::format("{} is not there, and cannot be made", path));
  }
  if (os::is_directory(path))
    return Error(Code::kInvalidArgument, path + " is a folder: give a block device or a raw image");
  bool is_device = false;
  RECLO_ASSIGN_OR_RETURN(const uint64_t size, target_size_bytes(path, is_device));
  if (size < disk_size_bytes)
    return Error(Code::kInvalidArgument,
                 fmt::format("{} has {}, the server's disk {}: it does not fit", path,
                             format_bytes(size), format_bytes(disk_size_bytes)));
  if (force) return {};
  if (!is_device && size != disk_size_bytes)
    return Error(Code::kAlreadyExists,
                 fmt::format("{} is there and has another size ({} instead of {}): --force "
                             "overwrites it",
                             path, size, disk_size_bytes));
  RECLO_ASSIGN_OR_RETURN(const auto user, disk::who_uses(path));
  if (!user) return {};
  return Error(Code::kConflict,
               fmt::format("{} is in use ({}): --force overwrites it all the same", path, *user));
}

Result<Failback> Failback::open(const FailbackStore& store, FailbackRecord record,
                                FailbackParts parts) {
  if (record.id.empty()) {
    record.started_at = wall_now();
    RECLO_TRY(store.create(record));
    RECLO_KILL_POINT("failback.recorded");
  }
  RECLO_ASSIGN_OR_RETURN(os::FileLock lock, store.lock(record.id));
  // As it is now that nobody else can change it.
  RECLO_ASSIGN_OR_RETURN(record, store.load(record.id));
  return Failback(store, std::move(record), std::move(parts), std::move(lock));
}

Status Failback::move_to(FailbackState state) {
  record_.state = state;
  return save();
}

bool Failback::round_is_complete() const {
  const auto done =
      std::count_if(record_.rounds.begin(), record_.rounds.end(),
                    [&](const FailbackRound& round) { return round.number == record_.round; });
  return static_cast<size_t>(done) >= record_.disks.size();
}

Status Failback::begin_round() {
  if (record_.round > 0 && !round_is_complete()) return {};
  ++record_.round;
  return save();
}

Status Failback::restore_base(FailbackDisk& disk, disk::BlockSink& sink, FailbackReport& report,
                              ProgressSink& progress, const CancelToken& cancel) {
  if (disk.base_restored) return {};
  RECLO_ASSIGN_OR_RETURN(const bool needed, parts_.source->needs_base(disk));
  if (!needed) return {};
  RECLO_ASSIGN_OR_RETURN(FailbackBase* const base, parts_.base(cancel));
  const std::string journal =
      store_.path(record_.id, fmt::format("restore-{}.journal", disk.index));
  RECLO_ASSIGN_OR_RETURN(const image::RestoreReport restored,
                         base->restore(disk.index, sink, journal, progress, cancel));
  RECLO_TRY(image::damage_status(restored));
  report.base_fetched_bytes += restored.fetched_bytes;
  report.base_written_bytes += restored.written_bytes;
  report.base_seconds += restored.duration_s;
  disk.base_restored = true;
  RECLO_TRY(save());
  RECLO_KILL_POINT("failback.base_restored");
  return {};
}

Status Failback::do_disk(FailbackDisk& disk, FailbackReport& report, ProgressSink& progress,
                         const CancelToken& cancel) {
  disk::SinkOptions options;
  options.force = record_.force;
  const bool existed = os::path_exists(disk.target);
  if (!disk.target_identity.empty()) {
    RECLO_ASSIGN_OR_RETURN(const std::string identity, identity_of(disk.target));
    if (identity != disk.target_identity)
      return Error(Code::kConflict,
                   fmt::format("{} is another disk or file than the one that was seeded ({}, now "
                               "{}): put that one back, or `reclo failback abandon {}` and begin "
                               "anew",
                               disk.target, disk.target_identity, identity, record_.id));
  }
  RECLO_ASSIGN_OR_RETURN(const auto sink, disk::open_sink(disk.target, disk.size_bytes, options));
  if (disk.target_identity.empty()) {
    RECLO_ASSIGN_OR_RETURN(disk.target_identity, identity_of(disk.target));
    RECLO_TRY(save());
    if (!existed) progress.note(fmt::format("made {}", disk.target));
  }
  RECLO_TRY(restore_base(disk, *sink, report, progress, cancel));
  const bool last = record_.last_round != 0 && record_.round == record_.last_round;
  const RoundJob job{
      record_, disk, *sink, last, [&] { return save(); }, report.verified_blocks, report.warnings};
  RECLO_ASSIGN_OR_RETURN(FailbackRound round, parts_.source->bring_home(job, progress, cancel));
  RECLO_TRY(sink->finish());
  RECLO_KILL_POINT("failback.round_written");
  round.number = record_.round;
  round.disk = disk.index;
  if (record_.rounds.size() == kRoundsKeptMax) record_.rounds.erase(record_.rounds.begin());
  record_.rounds.push_back(round);
  RECLO_TRY(save());
  RECLO_KILL_POINT("failback.round_noted");
  report.rounds.push_back(round);
  return {};
}

// Every disk that this round has not brought home yet.
Status Failback::do_round(FailbackReport& report, ProgressSink& progress,
                          const CancelToken& cancel) {
  for (FailbackDisk& disk : record_.disks) {
    const bool done =
        std::any_of(record_.rounds.begin(), record_.rounds.end(), [&](const FailbackRound& round) {
          return round.number == record_.round && round.disk == disk.index;
        });
    if (!done)
      RECLO_TRY_WITH(do_disk(disk, report, progress, cancel), fmt::format("disk {}", disk.index));
  }
  // The round stands: what cannot be removed now is removed by the next one, or by the last.
  const Status cleaned = parts_.source->clean(record_, false, [&] { return save(); }, cancel);
  if (!cleaned.ok()) report.warnings.push_back(cleaned.error().message());
  return {};
}

Result<FailbackReport> Failback::seed(ProgressSink& progress, const CancelToken& cancel) {
  if (record_.state != FailbackState::kSeeding)
    return Error(Code::kConflict,
                 fmt::format("failback {} is past seeding ({}): go on with `reclo failback cutover "
                             "{}`",
                             record_.id, failback_state_name(record_.state), record_.id));
  FailbackReport report;
  RECLO_TRY(begin_round());
  RECLO_TRY(do_round(report, progress, cancel));
  report.record = record_;
  return report;
}

// A round that was interrupted before the instance was stopped is finished first: its snapshot is
// older than what the instance wrote last.
Status Failback::do_last_round(FailbackReport& report, ProgressSink& progress,
                               const CancelToken& cancel) {
  if (record_.last_round == 0) {
    if (record_.round > 0 && !round_is_complete()) RECLO_TRY(do_round(report, progress, cancel));
    ++record_.round;
    record_.last_round = record_.round;
    RECLO_TRY(save());
    RECLO_KILL_POINT("failback.last_round_begun");
  }
  RECLO_TRY(do_round(report, progress, cancel));
  RECLO_TRY(move_to(FailbackState::kVerified));
  RECLO_KILL_POINT("failback.verified");
  return {};
}

Result<FailbackReport> Failback::cutover(ProgressSink& progress, const CancelToken& cancel) {
  FailbackReport report;
  if (record_.state == FailbackState::kAbandoned)
    return Error(Code::kConflict, fmt::format("failback {} was abandoned", record_.id));
  if (record_.state == FailbackState::kSeeding) {
    RECLO_TRY(move_to(FailbackState::kStopping));
    RECLO_KILL_POINT("failback.stopping");
  }
  if (record_.state == FailbackState::kStopping) {
    RECLO_TRY(parts_.source->stop(record_, progress, cancel));
    RECLO_KILL_POINT("failback.stop_asked");
    RECLO_TRY(move_to(FailbackState::kStopped));
    RECLO_KILL_POINT("failback.stopped");
  }
  if (record_.state == FailbackState::kStopped) {
    RECLO_TRY(do_last_round(report, progress, cancel));
  }
  if (record_.state == FailbackState::kVerified) {
    std::vector<std::string> targets;
    for (const FailbackDisk& disk : record_.disks) targets.push_back(disk.target);
    RECLO_ASSIGN_OR_RETURN(report.notes, parts_.undo_preparation(targets, cancel));
    RECLO_KILL_POINT("failback.unprepared");
    RECLO_TRY(move_to(FailbackState::kHome));
  }
  if (record_.state == FailbackState::kHome) {
    RECLO_TRY(parts_.source->clean(record_, true, [&] { return save(); }, cancel));
    RECLO_KILL_POINT("failback.cleaned");
    RECLO_TRY(move_to(FailbackState::kDone));
  }
  report.record = record_;
  return report;
}

Status Failback::abandon(const CancelToken& cancel) {
  if (record_.state == FailbackState::kDone)
    return Error(Code::kConflict, fmt::format("failback {} is done", record_.id));
  RECLO_TRY(parts_.source->clean(record_, true, [&] { return save(); }, cancel));
  RECLO_KILL_POINT("failback.abandoning");
  return move_to(FailbackState::kAbandoned);
}

}  // namespace reclo::recovery
