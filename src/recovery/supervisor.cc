#include "recovery/supervisor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "recovery/hydration.h"

namespace reclo::recovery {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLockMax{50};
constexpr seconds kPreviousSupervisorMax{15};
constexpr seconds kQmpAnswerMax{10};
constexpr milliseconds kRestartPauseMin{500};
constexpr milliseconds kRestartPauseMax{30'000};
constexpr milliseconds kProgressSaveEvery{1000};

class Supervisor {
 public:
  Supervisor(const InstanceStore& store, std::string id, DiskExporter* exporter,
             const CancelToken& cancel)
      : store_(store), id_(std::move(id)), exporter_(exporter), cancel_(cancel) {}

  /// One look. False: there is nothing to look after any more.
  Result<bool> look() {
    auto lock = store_.lock(id_, kLockMax, cancel_);
    if (!lock.ok()) return skip_or_end(lock.error());
    auto loaded = store_.load(id_);
    if (!loaded.ok()) return skip_or_end(loaded.error());
    InstanceRecord record = std::move(loaded).value();
    // A command was killed half-way: its steps are not ours to finish.
    if (record.state != InstanceState::kStarted && record.state != InstanceState::kAnswering)
      return record.state != InstanceState::kStopped && record.state != InstanceState::kFailed;
    const InstanceRecord before = record;
    Workbench bench{store_, record, exporter_, progress_, cancel_};
    if (!is_running(record.machine_process)) {
      RECLO_TRY(end(bench));
      return false;
    }
    keep_exports(bench);
    hydrate(bench);
    if (record != before && worth_saving(before, record)) RECLO_TRY(store_.save(record));
    return true;
  }

 private:
  // Deleted: end. Locked by a command, or cancelled: look again later.
  static Result<bool> skip_or_end(const Error& error) {
    if (error.code() == Code::kNotFound) return false;
    if (error.code() == Code::kConflict || error.code() == Code::kCancelled) return true;
    return error;
  }

  Status end(Workbench& bench) {
    note_machine_end(store_, bench.record);
    bench.record.machine_process = {};
    for (DiskRecord& disk : bench.record.disks) RECLO_TRY(end_export(bench, disk, false));
    if (bench.record.hydration == HydrationState::kRunning)
      bench.record.hydration = HydrationState::kWaiting;
    bench.record.supervisor_process = {};
    return store_.save(bench.record);
  }

  void keep_exports(Workbench& bench) {
    std::string problem;
    bool restarted = false;
    for (DiskRecord& disk : bench.record.disks) {
      if (disk.hydrated || is_running(disk.export_process)) continue;
      if (Clock::now() < next_restart_) return;
      restarted = true;
      const Status status = ensure_export(bench, disk);
      if (!status.ok()) problem = status.error().message();
    }
    if (!restarted) return;
    bench.record.problem = problem;
    if (!problem.empty()) log_error("instance {}: {}", id_, problem);
    pause_ = problem.empty() ? kRestartPauseMin : std::min(pause_ * 2, kRestartPauseMax);
    next_restart_ = Clock::now() + pause_;
  }

  static bool may_hydrate(const InstanceRecord& record) {
    if (record.hydration != HydrationState::kWaiting &&
        record.hydration != HydrationState::kRunning)
      return false;
    // Booting reads what it needs first; after the longest wait nobody waits any more.
    if (record.state == InstanceState::kAnswering || record.wait_for.empty()) return true;
    return record.steps.empty() ||
           unix_ms_now() - record.steps.back().finished_ms > record.wait_timeout_ms;
  }

  void hydrate(Workbench& bench) {
    InstanceRecord& record = bench.record;
    if (!may_hydrate(record)) return;
    if (record.hydration == HydrationState::kWaiting) hydration_started_ms_ = unix_ms_now();
    record.hydration = HydrationState::kRunning;
    for (DiskRecord& disk : record.disks) {
      if (disk.hydrated && !disk.export_process.known()) continue;
      const Status status = hydrate_disk(bench, disk);
      if (status.ok()) return;  // one disk at a time
      // QEMU is busy or ending: the next look tells.
      if (status.error().code() == Code::kUnavailable || status.error().code() == Code::kTimeout ||
          status.error().code() == Code::kCancelled)
        return;
      record.hydration = HydrationState::kFailed;
      record.problem = "hydration: " + status.error().message();
      log_error("instance {}: {}", id_, record.problem);
      return;
    }
    record.hydration = HydrationState::kDone;
    record.steps.push_back({"hydration", record.run, hydration_started_ms_, unix_ms_now()});
  }

  Status hydrate_disk(Workbench& bench, DiskRecord& disk) {
    if (!disk.hydrated) {
      const CancelToken answer = cancel_.with_timeout(kQmpAnswerMax);
      RECLO_ASSIGN_OR_RETURN(QmpClient qmp, QmpClient::connect(bench.paths().qmp_socket(), answer));
      RECLO_ASSIGN_OR_RETURN(const bool done, hydrate_disk_once(bench, qmp, disk));
      if (!done) return {};
    }
    return end_export(bench, disk, true);
  }

  // Progress alone is written once a second; everything else at once.
  bool worth_saving(const InstanceRecord& before, const InstanceRecord& after) {
    InstanceRecord same_progress = after;
    for (size_t i = 0; i < after.disks.size(); ++i) {
      same_progress.disks[i].hydrated_bytes = before.disks[i].hydrated_bytes;
      same_progress.disks[i].hydration_total_bytes = before.disks[i].hydration_total_bytes;
    }
    if (same_progress == before && Clock::now() < next_progress_save_) return false;
    next_progress_save_ = Clock::now() + kProgressSaveEvery;
    return true;
  }

  const InstanceStore& store_;
  const std::string id_;
  DiskExporter* const exporter_;
  const CancelToken& cancel_;
  NullProgress progress_;
  milliseconds pause_ = kRestartPauseMin;
  Clock::time_point next_restart_{};
  Clock::time_point next_progress_save_{};
  int64_t hydration_started_ms_ = unix_ms_now();
};

}  // namespace

void note_machine_end(const InstanceStore& store, InstanceRecord& record) {
  const InstancePaths paths = store.paths(record);
  // QEMU removes its pid file when it ends by its own will.
  const bool orderly = !os::path_exists(paths.pid_file());
  record.state = orderly ? InstanceState::kStopped : InstanceState::kFailed;
  record.problem = orderly ? "the machine was switched off, by its guest or with this computer"
                           : "QEMU ended abruptly; resume starts it again with all that the guest "
                             "had made durable. Its last words: " +
                                 log_tail(paths.qemu_log());
}

Status supervise(const InstanceStore& store, const std::string& id, DiskExporter* exporter,
                 const SuperviseOptions& options, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const InstanceRecord record, store.load(id));
  const std::string lock_path = store.paths(record).supervisor_lock();
  // A predecessor that is being ended may still hold it.
  const CancelToken patience = cancel.with_timeout(kPreviousSupervisorMax);
  auto only_one = os::FileLock::acquire(lock_path);
  while (!only_one.ok() && only_one.error().code() == Code::kConflict &&
         patience.sleep_for(milliseconds(50)).ok())
    only_one = os::FileLock::acquire(lock_path);
  if (!only_one.ok())
    return std::move(only_one).error().with("another supervisor looks after instance " + id);
  Supervisor supervisor(store, id, exporter, cancel);
  for (;;) {
    RECLO_ASSIGN_OR_RETURN(const bool go_on, supervisor.look());
    if (!go_on || !cancel.sleep_for(options.look_every).ok()) return {};
  }
}

Result<crypto::SecretKey> read_key_descriptor(int fd) {
  const os::Fd owned(fd);
  std::array<uint8_t, crypto::SecretKey::kSize> bytes{};
  const Status status = os::read_at(owned, 0, bytes);
  if (!status.ok()) return Error(Code::kInvalidArgument, "the key descriptor holds no key");
  crypto::SecretKey key = crypto::SecretKey::from_bytes(bytes);
  crypto::wipe(bytes);
  return key;
}

}  // namespace reclo::recovery
