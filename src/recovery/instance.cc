#include "recovery/instance.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/limits.h"
#include "base/task_pool.h"
#include "os/subprocess.h"
#include "recovery/machine_control.h"
#include "recovery/supervisor.h"
#include "recovery/wait_for.h"

namespace reclo::recovery {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kLockMax{60};
constexpr seconds kUsernetAnswerMax{2};
constexpr uint64_t kMemoryDefaultBytes = 2 * kGiB;
constexpr uint64_t kMemoryMinBytes = 64 * kMiB;
constexpr uint64_t kMemoryMaxBytes = 16 * kTiB;
constexpr uint32_t kCpusMax = 255;  // q35 without an interrupt remapper
constexpr size_t kForwardsMax = 64;
constexpr int kSupervisorKeyFd = 3;

uint64_t default_memory_bytes() {
  const long pages = ::sysconf(_SC_AVPHYS_PAGES);
  const long page_size = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_size <= 0) return kMemoryDefaultBytes;
  const uint64_t half = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_size) / 2;
  return std::clamp(half / kMiB * kMiB, 256 * kMiB, kMemoryDefaultBytes);
}

Status check_programs() {
  for (const auto& [program, package] :
       {std::pair("qemu-system-x86_64", "qemu-system-x86"), std::pair("qemu-img", "qemu-utils")})
    if (!os::find_program(program))
      return Error(Code::kNotFound,
                   fmt::format("{} is not installed: install the package {}", program, package));
  return {};
}

Status check_disks(const std::vector<RecoverDisk>& disks) {
  if (disks.empty() || disks.size() > kDisksPerServerMax)
    return Error(Code::kInvalidArgument, fmt::format("a machine has 1 to {} disks, not {}",
                                                     kDisksPerServerMax, disks.size()));
  std::set<uint32_t> seen;
  for (const RecoverDisk& disk : disks)
    if (disk.index >= kDisksPerServerMax || disk.size_bytes == 0 || !seen.insert(disk.index).second)
      return Error(Code::kInvalidArgument, fmt::format("disk {} of {} bytes cannot be recovered",
                                                       disk.index, disk.size_bytes));
  return {};
}

Result<InstanceRecord> new_record(const RecoverOptions& options) {
  RECLO_TRY(check_programs());
  RECLO_TRY(check_disks(options.disks));
  InstanceRecord record;
  RECLO_ASSIGN_OR_RETURN(record.accelerator,
                         choose_accelerator(options.accelerator, probe_accelerator()));
  record.memory_bytes = options.memory_bytes != 0 ? options.memory_bytes : default_memory_bytes();
  record.cpus = options.cpus != 0 ? options.cpus
                                  : static_cast<uint32_t>(std::min<size_t>(2, usable_cpu_count()));
  if (record.memory_bytes < kMemoryMinBytes || record.memory_bytes > kMemoryMaxBytes)
    return Error(Code::kInvalidArgument, fmt::format("a machine cannot have {} of memory",
                                                     format_bytes(record.memory_bytes)));
  if (record.cpus > kCpusMax || options.forwards.size() > kForwardsMax)
    return Error(Code::kInvalidArgument,
                 fmt::format("at most {} CPUs and {} forwards", kCpusMax, kForwardsMax));
  record.forwards = options.forwards;
  RECLO_TRY(pick_free_ports(record.forwards));
  if (!options.wait_for.empty()) RECLO_TRY(parse_wait_target(options.wait_for, record.forwards));
  record.name = options.name;
  record.server = options.server;
  record.point = options.point;
  record.point_time = options.point_time;
  record.created_at = wall_now();
  record.source = options.source;
  record.display = options.display;
  record.firmware = options.firmware;
  record.disk_bus = options.disk_bus;
  record.isolated = options.isolated;
  record.wait_for = options.wait_for;
  record.wait_timeout_ms = options.wait_timeout.count();
  record.hydration = options.hydrate ? HydrationState::kWaiting : HydrationState::kNone;
  record.hydration_limit_bytes_per_second = options.hydration_limit_bytes_per_second;
  for (const RecoverDisk& disk : options.disks) {
    DiskRecord entry;
    entry.index = disk.index;
    entry.size_bytes = round_up(disk.size_bytes, 512);
    record.disks.push_back(entry);
  }
  return record;
}

// A descriptor that reads as the key, for one child. The pages are the kernel's, never a file's.
Result<os::Fd> key_descriptor(const crypto::SecretKey& key) {
  os::Fd fd(::memfd_create("reclo-key", MFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "make a memory file");
  RECLO_TRY(os::write_all(fd, key.bytes()));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "rewind a memory file");
  return fd;
}

Status start_supervisor(Workbench& bench, const SupervisorLaunch& launch) {
  if (launch.argv.empty() || is_running(bench.record.supervisor_process)) return {};
  os::SpawnOptions options;
  options.argv = launch.argv;
  options.argv.insert(options.argv.end(),
                      {"--state-dir", bench.store.state_dir(), "--instance", bench.record.id});
  os::Fd key;
  if (launch.key != nullptr && launch.key->valid()) {
    RECLO_ASSIGN_OR_RETURN(key, key_descriptor(*launch.key));
    options.inherit.emplace_back(key.get(), kSupervisorKeyFd);
    options.argv.insert(options.argv.end(), {"--key-fd", fmt::format("{}", kSupervisorKeyFd)});
  }
  options.stdout_path = options.stderr_path = bench.paths().supervisor_log();
  options.new_session = true;
  RECLO_ASSIGN_OR_RETURN_WITH(const os::Subprocess process, os::Subprocess::start(options),
                              "start the supervisor");
  bench.record.supervisor_process = process_ref(process.pid());
  return bench.store.save(bench.record);
}

// Exports, overlays, machine, supervisor. The caller holds the lock.
Status bring_up(Workbench& bench, const SupervisorLaunch& supervisor) {
  ++bench.record.run;
  bench.record.problem.clear();
  RECLO_TRY(bench.store.ensure_run_dir(bench.record));
  RECLO_TRY(run_step(bench, "exports", InstanceState::kExportsStarted,
                     [&] { return ensure_exports(bench); }));
  RECLO_TRY(run_step(bench, "overlays", InstanceState::kOverlaysMade,
                     [&] { return ensure_overlays(bench); }));
  RECLO_TRY(
      run_step(bench, "machine", InstanceState::kStarted, [&] { return ensure_machine(bench); }));
  return start_supervisor(bench, supervisor);
}

// Ends all processes after a failure and notes it. Best effort: the first error is the one to tell.
Error give_up(Workbench& bench, Error error) {
  const CancelToken own;  // also when the failure is the user's own cancelling
  Workbench cleaner{bench.store, bench.record, nullptr, bench.progress, own};
  static constexpr const char* kWhy = "the failure before it is the one to report";
  ignore_error(end_supervisor(cleaner), kWhy);
  ignore_error(end_machine(cleaner, milliseconds(0)), kWhy);
  for (DiskRecord& disk : bench.record.disks) ignore_error(end_export(cleaner, disk, false), kWhy);
  bench.record.state = InstanceState::kFailed;
  bench.record.problem = error.message();
  ignore_error(bench.store.save(bench.record), kWhy);
  return std::move(error).with(
      fmt::format("instance {} (its logs are in {})", bench.record.id, bench.paths().folder));
}

Error machine_died(const InstancePaths& paths) {
  return Error(Code::kInternal,
               fmt::format("the machine ended before it answered. QEMU: {}\nSerial console: {}",
                           log_tail(paths.qemu_log()), log_tail(paths.serial_log())));
}

std::string last_line(const std::string& text) {
  const size_t at = text.rfind('\n');
  return at == std::string::npos ? text : text.substr(at + 1);
}

// Polls the target until it answers. Needs no lock.
Status wait_answer(const InstancePaths& paths, const InstanceRecord& record, ProgressSink& progress,
                   const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const WaitTarget target,
                         parse_wait_target(record.wait_for, record.forwards));
  const CancelToken deadline = cancel.with_timeout(milliseconds(record.wait_timeout_ms));
  const EstablishedCheck established = [&](const WaitTarget& wanted) -> Result<bool> {
    const CancelToken answer = deadline.with_timeout(kUsernetAnswerMax);
    auto qmp = QmpClient::connect(paths.qmp_socket(), answer);
    if (!qmp.ok()) return false;  // busy, or gone: the loop below sees which
    const auto table = qmp->human("info usernet", answer);
    return table.ok() && usernet_established(*table, wanted);
  };
  const Stopwatch watch;
  while (deadline.check().ok()) {
    const Stopwatch attempt;
    RECLO_ASSIGN_OR_RETURN(const Probe probe, probe_target(target, established, deadline));
    if (probe == Probe::kAnswered) return {};
    if (!is_running(record.machine_process)) return machine_died(paths);
    const std::string detail = last_line(log_tail(paths.serial_log()));
    progress.update({"waiting for the first answer", 0, 0, 0, detail});
    ignore_error(deadline.sleep_for(pause_after(probe, attempt.elapsed())),
                 "the loop's condition asks the same");
  }
  RECLO_TRY(cancel.check());
  return Error(
      Code::kTimeout,
      fmt::format("{} did not answer within {}; the machine runs on. Serial console: {}",
                  record.wait_for, format_duration(watch.elapsed()), log_tail(paths.serial_log())));
}

// After bring_up(), without the lock: the wait, then the record of it.
Result<RecoverResult> finish(const InstanceStore& store, InstanceRecord record, bool first_run,
                             const Stopwatch& since_call, ProgressSink& progress,
                             const CancelToken& cancel) {
  const InstancePaths paths = store.paths(record);
  const int64_t wait_started_ms = unix_ms_now();
  Status answer;
  if (!record.wait_for.empty()) answer = wait_answer(paths, record, progress, cancel);
  const auto took = std::chrono::duration_cast<milliseconds>(since_call.elapsed()).count();
  const CancelToken own;
  RECLO_ASSIGN_OR_RETURN(const os::FileLock lock, store.lock(record.id, kLockMax, own));
  RECLO_ASSIGN_OR_RETURN(record, store.load(record.id));
  Workbench bench{store, record, nullptr, progress, own};
  if (!answer.ok() && !is_running(record.machine_process))
    return give_up(bench, std::move(answer).error());
  if (!answer.ok()) return std::move(answer).error().with("instance " + record.id);
  RecoverResult result;
  result.first_answer_ms = took;
  if (!record.wait_for.empty()) {
    result.answered = true;
    record.state = InstanceState::kAnswering;
    record.steps.push_back({"answer", record.run, wait_started_ms, unix_ms_now()});
    if (record.steps.size() > kStepsKeptMax) record.steps.erase(record.steps.begin() + 1);
  }
  if (first_run) record.rto_ms = took;
  RECLO_TRY(store.save(record));
  result.record = std::move(record);
  return result;
}

bool is_active(const InstanceRecord& record) {
  return record.state != InstanceState::kStopped && record.state != InstanceState::kFailed;
}

}  // namespace

Result<RecoverResult> recover(const InstanceStore& store, const RecoverOptions& options,
                              DiskExporter& exporter, const SupervisorLaunch& supervisor,
                              ProgressSink& progress, const CancelToken& cancel) {
  const Stopwatch since_call;
  RECLO_ASSIGN_OR_RETURN(InstanceRecord record, new_record(options));
  record.rpo_ms = (record.created_at - record.point_time).count();
  RECLO_TRY(store.create(record));
  progress.note(fmt::format("instance {}", record.id));
  {
    RECLO_ASSIGN_OR_RETURN(const os::FileLock lock, store.lock(record.id, kLockMax, cancel));
    Workbench bench{store, record, &exporter, progress, cancel};
    Status up = bring_up(bench, supervisor);
    if (!up.ok()) return give_up(bench, std::move(up).error());
  }
  return finish(store, std::move(record), true, since_call, progress, cancel);
}

Result<bool> needs_repository(const InstanceStore& store, const InstanceRecord& record) {
  InstanceRecord copy = record;
  NullProgress silent;
  const CancelToken own;
  const Workbench bench{store, copy, nullptr, silent, own};
  for (const DiskRecord& disk : copy.disks) {
    RECLO_ASSIGN_OR_RETURN(const bool needed, needs_base(bench, disk));
    if (needed) return true;
  }
  return false;
}

Result<RecoverResult> resume_instance(const InstanceStore& store, const std::string& id,
                                      const ResumeOptions& options, DiskExporter* exporter,
                                      const SupervisorLaunch& supervisor, ProgressSink& progress,
                                      const CancelToken& cancel) {
  const Stopwatch since_call;
  RECLO_TRY(check_programs());
  InstanceRecord record;
  bool first_run = false;
  {
    RECLO_ASSIGN_OR_RETURN(const os::FileLock lock, store.lock(id, kLockMax, cancel));
    RECLO_ASSIGN_OR_RETURN(record, store.load(id));
    first_run = record.run == 0;
    if (options.wait_for && !options.wait_for->empty())
      RECLO_TRY(parse_wait_target(*options.wait_for, record.forwards));
    record.wait_for = options.wait_for.value_or(record.wait_for);
    if (options.hydrate)
      record.hydration = *options.hydrate ? HydrationState::kWaiting : HydrationState::kNone;
    if (record.hydration == HydrationState::kFailed) record.hydration = HydrationState::kWaiting;
    Workbench bench{store, record, exporter, progress, cancel};
    Status up = bring_up(bench, supervisor);
    // A machine that runs is worth more than order: only a failed start is cleaned up.
    if (!up.ok() && !is_running(record.machine_process))
      return give_up(bench, std::move(up).error());
    RECLO_TRY(up);
  }
  return finish(store, std::move(record), first_run, since_call, progress, cancel);
}

Status stop_instance(const InstanceStore& store, const std::string& id, const StopOptions& options,
                     ProgressSink& progress, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(InstanceRecord record, store.load(id));
  Workbench bench{store, record, nullptr, progress, cancel};
  // Before the lock: a supervisor may hold it for long while it writes out a hydrated disk.
  RECLO_TRY(end_supervisor(bench));
  RECLO_ASSIGN_OR_RETURN(const os::FileLock lock, store.lock(id, kLockMax, cancel));
  RECLO_ASSIGN_OR_RETURN(record, store.load(id));
  RECLO_TRY(end_supervisor(bench));
  RECLO_TRY(end_machine(bench, options.force ? milliseconds(0) : options.powerdown_timeout));
  for (DiskRecord& disk : record.disks) RECLO_TRY(end_export(bench, disk, false));
  if (is_active(record)) record.problem.clear();
  record.state = InstanceState::kStopped;
  if (record.hydration == HydrationState::kRunning) record.hydration = HydrationState::kWaiting;
  RECLO_TRY(store.save(record));
  return options.delete_instance ? store.remove(record) : ok_status();
}

Result<std::vector<InstanceRecord>> list_instances(const InstanceStore& store) {
  RECLO_ASSIGN_OR_RETURN(auto records, store.list());
  for (InstanceRecord& record : records) {
    const bool was_up =
        record.state == InstanceState::kStarted || record.state == InstanceState::kAnswering;
    if (was_up && !is_running(record.machine_process)) note_machine_end(store, record);
  }
  return records;
}

}  // namespace reclo::recovery
