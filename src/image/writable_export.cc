#include "image/writable_export.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/log.h"
#include "image/nbd_server.h"

namespace reclo::image {
namespace {

constexpr const char* kServerNeedle = "qemu-nbd";
constexpr int kClientsMax = 16;
constexpr int kReconnectSeconds = 60;
constexpr int kRestartsMax = 5;  // within kRestartWindow
constexpr std::chrono::minutes kRestartWindow{1};

}  // namespace

WritableExport::WritableExport(const WritableExportOptions& options, os::TempDir folder)
    : options_(options), folder_(std::move(folder)) {
  options_.base.socket_path = os::join_path(folder_.path(), "base.sock");
  options_.base.listen_address.clear();
  options_.base.die_with_parent = true;
  if (options_.log_path.empty()) options_.log_path = os::join_path(folder_.path(), "log");
  options_.base.log_path = options_.log_path;
  // QEMU takes "a:b" for a protocol.
  if (!options_.overlay_path.starts_with('/')) options_.overlay_path.insert(0, "./");
}

WritableExport::~WritableExport() {
  // The overlay's server first: it may still have to read in order to finish a write.
  stop_server(server_pid_, kServerNeedle);
  stop_nbd_export(base_.pid);
}

std::string WritableExport::export_name() const {
  return fmt::format("reclo-{}-{}", options_.base.point.hex(), options_.base.disk_index);
}

Result<std::unique_ptr<WritableExport>> WritableExport::start(
    const WritableExportOptions& options, const crypto::SecretKey& box_secret_key,
    const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(os::TempDir folder, os::TempDir::create("reclo-serve-"));
  std::unique_ptr<WritableExport> out(new WritableExport(options, std::move(folder)));
  out->box_secret_key_ = box_secret_key.clone();
  RECLO_TRY(out->start_base(cancel));
  out->size_bytes_ = out->base_.size_bytes;
  RECLO_TRY(out->check_or_make_overlay(cancel));
  RECLO_TRY(out->start_overlay_server(cancel));
  return out;
}

Status WritableExport::start_base(const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(base_, start_nbd_export(options_.base, box_secret_key_, cancel));
  return {};
}

std::string WritableExport::backing_name() const {
  const Json backing = {{"driver", "raw"},
                        {"file",
                         {{"driver", "nbd"},
                          {"server", {{"type", "unix"}, {"path", options_.base.socket_path}}},
                          {"export", export_name()},
                          {"reconnect-delay", kReconnectSeconds}}}};
  return "json:" + backing.dump();
}

// The name of the export that an overlay refers to says which point it was made on. Where that is
// served today is written into it anew each time.
Status WritableExport::check_or_make_overlay(const CancelToken& cancel) {
  const std::string& overlay = options_.overlay_path;
  if (!os::path_exists(overlay)) {
    RECLO_TRY_WITH(os::run_checked({"qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw",
                                    "-b", backing_name(), overlay, std::to_string(size_bytes_)},
                                   cancel),
                   "making the overlay");
    return {};
  }
  RECLO_ASSIGN_OR_RETURN(
      const os::Output info,
      os::run_command({"qemu-img", "info", "-U", "-f", "qcow2", "--output=json", overlay}, cancel));
  if (info.exit_code != 0)
    return Error(Code::kInvalidArgument, fmt::format("{} exists and is not an overlay: {}", overlay,
                                                     info.err.substr(0, 500)));
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(info.out, "qemu-img's description"));
  RECLO_ASSIGN_OR_RETURN(const std::string backing,
                         json_get_or<std::string>(json, "backing-filename", ""));
  if (backing.find(export_name()) == std::string::npos)
    return Error(Code::kConflict,
                 fmt::format("{} was not made on disk {} of recovery point {}: name another file",
                             overlay, options_.base.disk_index, options_.base.point.short_hex()));
  RECLO_ASSIGN_OR_RETURN(const os::Output rebased,
                         os::run_command({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw",
                                          "-b", backing_name(), overlay},
                                         cancel));
  if (rebased.exit_code == 0) return {};
  const bool in_use = rebased.err.find("\" lock") != std::string::npos;
  return Error(
      in_use ? Code::kConflict : Code::kIo,
      fmt::format("{} cannot be changed{}: {}", overlay,
                  in_use ? " because another program uses it" : "", rebased.err.substr(0, 500)));
}

Status WritableExport::start_overlay_server(const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const NbdAddress address,
                         parse_nbd_address(options_.socket_path, options_.listen_address));
  const Json image = {{"driver", "qcow2"},
                      {"file", {{"driver", "file"}, {"filename", options_.overlay_path}}}};
  os::SpawnOptions spawn;
  spawn.argv = {"qemu-nbd", "--persistent", fmt::format("--shared={}", kClientsMax),
                "--cache=writeback", "--discard=unmap"};
  if (address.socket_path.empty()) {
    if (!address.host.empty()) spawn.argv.push_back("--bind=" + address.host);
    spawn.argv.push_back("--port=" + address.port);
  } else {
    if (ask_nbd_size(address).ok())
      return Error(Code::kConflict, "another server already listens at " + address.text());
    RECLO_TRY(os::remove_file(address.socket_path));
    spawn.argv.push_back("--socket=" + address.socket_path);
  }
  spawn.argv.push_back("json:" + image.dump());
  spawn.stdout_path = options_.log_path;
  spawn.stderr_path = options_.log_path;
  spawn.new_session = true;
  spawn.die_with_parent = true;
  RECLO_ASSIGN_OR_RETURN(os::Subprocess server, start_server(spawn));
  server_pid_ = server.pid();
  const auto size = wait_for_server(
      server, address,
      [&] {
        const std::string log = end_of_log(options_.log_path);
        const bool in_use = log.find("\" lock") != std::string::npos;
        return Error(in_use ? Code::kConflict : Code::kUnavailable,
                     fmt::format("qemu-nbd ended{}: {}",
                                 in_use ? " because another program uses the overlay" : "", log));
      },
      cancel);
  if (size.ok()) return {};
  server.terminate(std::chrono::seconds(2));
  return Error(size.error()).with("serving " + options_.overlay_path);
}

Status WritableExport::supervise(const CancelToken& cancel) {
  std::vector<std::chrono::steady_clock::time_point> restarts;
  while (cancel.sleep_for(std::chrono::milliseconds(200)).ok()) {
    const bool base_alive = server_alive(base_.pid, "nbdkit");
    const bool server_is_alive = server_alive(server_pid_, kServerNeedle);
    if (base_alive && server_is_alive) continue;
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(restarts, [&](auto then) { return then + kRestartWindow < now; });
    restarts.push_back(now);
    const std::string log = end_of_log(options_.log_path, 500);
    if (restarts.size() > kRestartsMax)
      return Error(Code::kUnavailable, "the NBD servers end again and again: " + log);
    log_warning("{} ended and is started again: {}", base_alive ? "qemu-nbd" : "nbdkit", log);
    const Status status = base_alive ? start_overlay_server(cancel) : start_base(cancel);
    if (!status.ok() && cancel.fired()) break;
    RECLO_TRY(status);
  }
  return {};
}

}  // namespace reclo::image
