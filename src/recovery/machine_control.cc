#include "recovery/machine_control.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>

#include "base/json.h"
#include "base/kill_point.h"
#include "base/units.h"
#include "os/subprocess.h"
#include "recovery/clone_marker.h"
#include "recovery/firmware.h"
#include "recovery/overlay.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kMachineStartMax{60};
constexpr seconds kQmpAnswerMax{10};
constexpr seconds kQuitMax{60};  // QEMU writes out its caches first
constexpr seconds kExportGrace{5};
constexpr seconds kSupervisorGrace{10};
constexpr size_t kTailSizeBytes = 1500;
constexpr uint64_t kUefiVarsSizeBytesMax = 4 * kMiB;

bool overlays_were_made(const InstanceRecord& record) {
  return std::any_of(record.steps.begin(), record.steps.end(),
                     [](const StepRecord& step) { return step.name == "overlays"; });
}

MachineSpec machine_spec(const InstanceRecord& record, const InstancePaths& paths) {
  MachineSpec spec;
  spec.instance_id = record.id;
  spec.accelerator = record.accelerator;
  spec.memory_bytes = record.memory_bytes;
  spec.cpus = record.cpus;
  spec.firmware = record.firmware;
  spec.disk_bus = record.disk_bus;
  spec.display = record.display;
  spec.isolated = record.isolated;
  spec.forwards = record.forwards;
  spec.uefi_vars_path = paths.uefi_vars();
  spec.qmp_socket = paths.qmp_socket();
  spec.vnc_socket = paths.vnc_socket();
  spec.serial_log = paths.serial_log();
  spec.pid_file = paths.pid_file();
  return spec;
}

Status prepare_uefi(const InstancePaths& paths, MachineSpec& spec) {
  RECLO_ASSIGN_OR_RETURN(const UefiFiles files, find_uefi_files());
  spec.uefi_code_path = files.code_path;
  if (os::path_exists(spec.uefi_vars_path)) return {};
  RECLO_ASSIGN_OR_RETURN(const Bytes vars,
                         os::read_file(files.vars_template_path, kUefiVarsSizeBytesMax));
  return os::write_file_durably(paths.uefi_vars(), vars);
}

// How a recovered copy can know that it is one (clone_marker.h).
Status write_marker(const InstanceRecord& record, const InstancePaths& paths, MachineSpec& spec) {
  const auto point = PointId::parse(record.point);
  if (!point.ok()) return {};  // not from a repository
  CloneMarker marker;
  marker.from_point = point->hex();
  marker.server = record.server;
  marker.target = "qemu";
  marker.drill = record.isolated;
  marker.made = record.created_at;
  spec.marker_path = paths.in_folder("recovered.json");
  return os::write_file_durably(spec.marker_path, as_bytes(encode_clone_marker(marker)));
}

uint64_t size_or_zero(const std::string& path) {
  const auto size = os::file_size_bytes(path);
  return size.ok() ? *size : 0;
}

// Waits until a freshly started QEMU answers, and notes where its screen is.
Status wait_machine(Workbench& bench, uint64_t log_from) {
  const CancelToken deadline = bench.cancel.with_timeout(kMachineStartMax);
  const InstancePaths paths = bench.paths();
  for (;;) {
    auto qmp = QmpClient::connect(paths.qmp_socket(), deadline);
    if (qmp.ok()) {
      RECLO_TRY(qmp->execute("query-status", deadline));
      bench.record.vnc_address.clear();
      if (bench.record.display == Display::kVncSocket)
        bench.record.vnc_address = paths.vnc_socket();
      if (bench.record.display != Display::kVnc) return {};
      RECLO_ASSIGN_OR_RETURN(const Json vnc, qmp->execute("query-vnc", deadline));
      RECLO_ASSIGN_OR_RETURN(const std::string host, json_get<std::string>(vnc, "host"));
      RECLO_ASSIGN_OR_RETURN(const std::string service, json_get<std::string>(vnc, "service"));
      bench.record.vnc_address = fmt::format("{}:{}", host, service);
      return {};
    }
    if (!is_running(bench.record.machine_process))
      return Error(Code::kInternal,
                   fmt::format("QEMU ended at once: {}", log_tail(paths.qemu_log(), log_from)));
    RECLO_TRY_WITH(deadline.sleep_for(milliseconds(10)), "waiting for QEMU to start");
  }
}

// Finds a process that was started by somebody who was killed before noting its pid: by its
// listening socket, or, when it is not that far yet, by an argument that only it has.
void find_again(ProcessRef& process, const std::string& socket_path, const std::string& argument) {
  if (is_running(process)) return;
  const auto pid = listening_process(socket_path);
  process = pid ? process_ref(*pid) : process_with_argument(argument);
}

void find_export(Workbench& bench, DiskRecord& disk) {
  const std::string socket = bench.paths().nbd_socket(disk.index);
  find_again(disk.export_process, socket, socket);
}

void find_machine(Workbench& bench) {
  const InstancePaths paths = bench.paths();
  find_again(bench.record.machine_process, paths.qmp_socket(), paths.pid_file());
}

Status ask_powerdown(Workbench& bench, milliseconds timeout) {
  const CancelToken answer = bench.cancel.with_timeout(kQmpAnswerMax);
  RECLO_ASSIGN_OR_RETURN(QmpClient qmp, QmpClient::connect(bench.paths().qmp_socket(), answer));
  RECLO_TRY(qmp.execute("system_powerdown", answer));
  bench.progress.note("asked the guest to shut down");
  const CancelToken deadline = bench.cancel.with_timeout(timeout);
  while (is_running(bench.record.machine_process)) RECLO_TRY(deadline.sleep_for(milliseconds(50)));
  return {};
}

Status ask_quit(Workbench& bench) {
  const CancelToken answer = bench.cancel.with_timeout(kQmpAnswerMax);
  RECLO_ASSIGN_OR_RETURN(QmpClient qmp, QmpClient::connect(bench.paths().qmp_socket(), answer));
  RECLO_TRY(qmp.execute("quit", answer));
  const CancelToken deadline = bench.cancel.with_timeout(kQuitMax);
  while (is_running(bench.record.machine_process)) RECLO_TRY(deadline.sleep_for(milliseconds(20)));
  return {};
}

}  // namespace

int64_t unix_ms_now() { return wall_now().time_since_epoch().count(); }

std::string log_tail(const std::string& path, uint64_t from) {
  const uint64_t end = size_or_zero(path);
  if (end > from + kTailSizeBytes) from = end - kTailSizeBytes;
  if (from >= end) return "(it said nothing)";
  Bytes bytes(end - from);
  const auto fd = os::open_file(path, os::OpenMode::kRead);
  if (!fd.ok() || !os::read_at(*fd, from, bytes).ok()) return "(its log cannot be read)";
  std::string out;
  for (const uint8_t byte : bytes) {
    if (byte == '\n' || (byte >= ' ' && byte != 0x7f))
      out += static_cast<char>(byte);
    else if (byte == 0x1b)
      out += "^[";
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out.empty() ? "(it said nothing)" : out;
}

Status run_step(Workbench& bench, std::string_view name, InstanceState after,
                const std::function<Status()>& work) {
  StepRecord step{std::string(name), bench.record.run, unix_ms_now(), 0};
  RECLO_TRY_WITH(work(), name);
  step.finished_ms = unix_ms_now();
  auto& steps = bench.record.steps;
  if (steps.size() == kStepsKeptMax) steps.erase(steps.begin() + 1);
  steps.push_back(step);
  bench.record.state = after;
  RECLO_TRY(bench.store.save(bench.record));
  bench.progress.note(
      fmt::format("{} ready after {}", name,
                  format_duration(milliseconds(step.finished_ms - step.started_ms))));
  RECLO_KILL_POINT(("recovery.after_" + step.name).c_str());
  return {};
}

Result<bool> needs_base(const Workbench& bench, const DiskRecord& disk) {
  const std::string path = bench.paths().overlay(disk.index);
  if (!os::path_exists(path)) return true;
  RECLO_ASSIGN_OR_RETURN(const OverlayFacts facts, read_overlay(path));
  return facts.has_base;
}

Status ensure_export(Workbench& bench, DiskRecord& disk) {
  const InstancePaths paths = bench.paths();
  const std::string socket = paths.nbd_socket(disk.index);
  const ProcessRef noted = disk.export_process;
  find_export(bench, disk);
  if (is_running(disk.export_process) && listening_process(socket)) {
    if (noted == disk.export_process) return {};
    return bench.store.save(bench.record);
  }
  if (bench.exporter == nullptr)
    return Error(Code::kInvalidArgument, "the repository is needed to serve this instance's disks");
  // A server that lives but does not listen serves nobody.
  RECLO_TRY(end_process(disk.export_process, kExportGrace));
  RECLO_TRY(os::remove_file(socket));
  RECLO_ASSIGN_OR_RETURN_WITH(
      const RunningExport running,
      bench.exporter->start(
          {disk.index, socket, paths.nbd_log(disk.index), paths.cache(disk.index)}, bench.cancel),
      fmt::format("serve disk {}", disk.index));
  RECLO_KILL_POINT("recovery.export_started");
  disk.export_process = process_ref(running.pid);
  RECLO_TRY(bench.store.save(bench.record));
  if (round_up(running.size_bytes, 512) != disk.size_bytes)
    return Error(Code::kConflict, fmt::format("disk {} is served with {} bytes instead of {}",
                                              disk.index, running.size_bytes, disk.size_bytes));
  return {};
}

Status ensure_exports(Workbench& bench) {
  for (DiskRecord& disk : bench.record.disks) {
    RECLO_ASSIGN_OR_RETURN(const bool needed, needs_base(bench, disk));
    disk.hydrated = !needed;
    if (needed) RECLO_TRY(ensure_export(bench, disk));
  }
  if (bench.record.firmware == Firmware::kAuto) {
    const std::string socket = bench.paths().nbd_socket(bench.record.disks.front().index);
    RECLO_ASSIGN_OR_RETURN(bench.record.firmware, detect_firmware(socket));
  }
  return {};
}

Status ensure_overlays(Workbench& bench) {
  const InstancePaths paths = bench.paths();
  for (const DiskRecord& disk : bench.record.disks) {
    const std::string path = paths.overlay(disk.index);
    if (overlays_were_made(bench.record) && !os::path_exists(path))
      return Error(Code::kNotFound,
                   fmt::format("{} is gone, and with it what the guest wrote: recover again from a "
                               "recovery point",
                               path));
    RECLO_TRY(make_overlay(path, paths.nbd_socket(disk.index), disk.size_bytes, bench.cancel));
  }
  return {};
}

Status ensure_machine(Workbench& bench) {
  const InstancePaths paths = bench.paths();
  InstanceRecord& record = bench.record;
  find_machine(bench);
  if (is_running(record.machine_process))
    return wait_machine(bench, size_or_zero(paths.qemu_log()));
  for (const std::string& path : {paths.qmp_socket(), paths.vnc_socket(), paths.pid_file()})
    RECLO_TRY(os::remove_file(path));
  MachineSpec spec = machine_spec(record, paths);
  if (spec.firmware == Firmware::kUefi) RECLO_TRY(prepare_uefi(paths, spec));
  RECLO_TRY(write_marker(record, paths, spec));
  for (const DiskRecord& disk : record.disks) {
    RECLO_ASSIGN_OR_RETURN(const bool needed, needs_base(bench, disk));
    spec.disks.push_back({disk.index, paths.overlay(disk.index),
                          needed ? paths.nbd_socket(disk.index) : std::string()});
  }
  const uint64_t log_from = size_or_zero(paths.qemu_log());
  os::SpawnOptions options;
  options.argv = qemu_argv(spec);
  options.stdout_path = paths.qemu_log();
  options.stderr_path = paths.qemu_log();
  options.new_session = true;
  RECLO_ASSIGN_OR_RETURN(const os::Subprocess process, os::Subprocess::start(options));
  RECLO_KILL_POINT("recovery.machine_started");
  record.machine_process = process_ref(process.pid());
  RECLO_TRY(bench.store.save(record));
  return wait_machine(bench, log_from);
}

Status end_export(Workbench& bench, DiskRecord& disk, bool drop_cache) {
  const InstancePaths paths = bench.paths();
  const std::string socket = paths.nbd_socket(disk.index);
  find_export(bench, disk);
  RECLO_TRY(end_process(disk.export_process, kExportGrace));
  disk.export_process = {};
  RECLO_TRY(os::remove_file(socket));
  if (drop_cache) RECLO_TRY(os::remove_tree(paths.cache(disk.index)));
  return {};
}

Status end_machine(Workbench& bench, milliseconds powerdown_timeout) {
  ProcessRef& machine = bench.record.machine_process;
  find_machine(bench);
  if (powerdown_timeout.count() > 0 && is_running(machine)) {
    const Status down = ask_powerdown(bench, powerdown_timeout);
    if (!down.ok() && down.error().code() == Code::kCancelled) return down;
    if (!down.ok() && is_running(machine))
      bench.progress.note("the guest did not shut down in time; switching it off");
  }
  if (is_running(machine)) {
    const Status quit = ask_quit(bench);
    if (!quit.ok() && quit.error().code() == Code::kCancelled) return quit;
    ignore_error(quit, "what an unresponsive QEMU answers changes nothing: it is ended next");
  }
  RECLO_TRY(end_process(machine, seconds(10)));
  machine = {};
  bench.record.vnc_address.clear();
  for (const std::string& path :
       {bench.paths().qmp_socket(), bench.paths().vnc_socket(), bench.paths().pid_file()})
    RECLO_TRY(os::remove_file(path));
  return {};
}

Status end_supervisor(Workbench& bench) {
  RECLO_TRY(end_process(bench.record.supervisor_process, kSupervisorGrace));
  bench.record.supervisor_process = {};
  return {};
}

}  // namespace reclo::recovery
