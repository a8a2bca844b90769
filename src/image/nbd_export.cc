#include "image/nbd_export.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "image/image_spec.h"
#include "image/nbd_server.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace reclo::image {
namespace {

constexpr const char* kPluginName = "reclo-nbdkit-plugin.so";
constexpr int kSpecFdInChild = 3;
constexpr int kServerThreads = 16;

Result<std::string> find_plugin() {
  std::vector<std::string> places;
  if (const char* given = std::getenv("RECLO_PLUGIN_DIR"); given != nullptr && *given != '\0')
    places.emplace_back(given);
  RECLO_ASSIGN_OR_RETURN(const std::string self, os::self_executable());
  const std::string folder = os::parent_path(self);
  places.push_back(folder);
  places.push_back(os::join_path(os::parent_path(folder), "lib/reclo"));
  for (const std::string& place : places) {
    std::string path = os::join_path(place, kPluginName);
    if (os::path_exists(path)) return path;
  }
  return Error(Code::kNotFound,
               fmt::format("{} is missing (looked in {}): install ReClo completely, or set "
                           "RECLO_PLUGIN_DIR",
                           kPluginName, fmt::join(places, ", ")));
}

// A file that exists in memory only, and for who holds the descriptor.
Result<os::Fd> memory_file(const char* name) {
  os::Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "make a memory file");
  return fd;
}

Result<os::Fd> spec_file(const NbdExportOptions& options, const crypto::SecretKey& box_secret_key) {
  ImageSpec spec;
  spec.store = options.store;
  spec.machine = options.machine;
  spec.point = options.point;
  spec.disk_index = options.disk_index;
  spec.cache_directory = options.cache_directory;
  spec.cache_size_bytes = options.cache_size_bytes;
  if (!options.cache_directory.empty())
    spec.boot_set_path = os::join_path(
        options.cache_directory,
        fmt::format("boot-set-{}-{}", options.machine.short_hex(), options.disk_index));
  spec.box_secret_key = box_secret_key.clone();
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, memory_file("reclo-spec"));
  Bytes text = encode_image_spec(spec);
  const Status written = os::write_at(fd, 0, text);
  crypto::wipe(text);
  RECLO_TRY(written);
  return fd;
}

constexpr Code kAllCodes[] = {Code::kInvalidArgument,
                              Code::kNotFound,
                              Code::kAlreadyExists,
                              Code::kPermissionDenied,
                              Code::kUnauthenticated,
                              Code::kCorruption,
                              Code::kIo,
                              Code::kNoSpace,
                              Code::kUnavailable,
                              Code::kTimeout,
                              Code::kCancelled,
                              Code::kConflict,
                              Code::kResourceExhausted,
                              Code::kUnsupported,
                              Code::kInternal};

// What the plugin reported last ("reclo: [code] message"), or the log's last line.
Error last_words_of(const std::string& log) {
  const std::string text = end_of_log(log);
  const size_t at = text.rfind("reclo: [");
  const size_t close = at == std::string::npos ? at : text.find("] ", at);
  if (close == std::string::npos) {
    const size_t line = text.rfind('\n');
    const std::string last = line == std::string::npos ? text : text.substr(line + 1);
    return Error(Code::kUnavailable,
                 "the NBD server ended: " + (last.empty() ? "it said nothing" : last));
  }
  const std::string name = text.substr(at + 8, close - at - 8);
  Code code = Code::kUnavailable;
  for (const Code known : kAllCodes)
    if (code_name(known) == name) code = known;
  return Error(code, text.substr(close + 2, text.find('\n', close) - close - 2));
}

}  // namespace

Result<NbdExport> start_nbd_export(const NbdExportOptions& options,
                                   const crypto::SecretKey& box_secret_key,
                                   const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const NbdAddress address,
                         parse_nbd_address(options.socket_path, options.listen_address));
  RECLO_ASSIGN_OR_RETURN(const std::string plugin, find_plugin());
  RECLO_ASSIGN_OR_RETURN(const os::Fd spec, spec_file(options, box_secret_key));
  // Without a log file its words still have to be found when it fails.
  RECLO_ASSIGN_OR_RETURN(const os::Fd log_fd, memory_file("reclo-nbd-log"));
  const std::string log =
      options.log_path.empty() ? fmt::format("/proc/self/fd/{}", log_fd.get()) : options.log_path;
  if (!options.cache_directory.empty()) RECLO_TRY(os::make_directories(options.cache_directory));

  os::SpawnOptions spawn;
  spawn.argv = {"nbdkit", "--foreground", "--threads", std::to_string(kServerThreads)};
  if (address.socket_path.empty()) {
    if (!address.host.empty()) spawn.argv.insert(spawn.argv.end(), {"--ipaddr", address.host});
    spawn.argv.insert(spawn.argv.end(), {"--port", address.port});
  } else {
    // Left by a server that was killed; a living one would not be noticed by bind() either.
    if (ask_nbd_size(address).ok())
      return Error(Code::kConflict, "another server already listens at " + address.text());
    RECLO_TRY(os::remove_file(address.socket_path));
    spawn.argv.insert(spawn.argv.end(), {"--unix", address.socket_path});
  }
  if (!options.read_log_path.empty()) spawn.argv.emplace_back("--filter=log");
  spawn.argv.insert(spawn.argv.end(), {plugin, fmt::format("spec-fd={}", kSpecFdInChild)});
  if (!options.die_with_parent) spawn.argv.emplace_back("outlive-parent=yes");
  if (!options.read_log_path.empty()) spawn.argv.push_back("logfile=" + options.read_log_path);
  spawn.inherit = {{spec.get(), kSpecFdInChild}};
  spawn.stdout_path = log;
  spawn.stderr_path = log;
  spawn.new_session = true;
  spawn.die_with_parent = options.die_with_parent;
#ifdef RECLO_PLUGIN_PRELOAD
  spawn.environment["LD_PRELOAD"] = RECLO_PLUGIN_PRELOAD;
  // The leak check at nbdkit's exit hangs in its libraries' destructors; the leaks are not ours.
  spawn.environment["ASAN_OPTIONS"] = "detect_leaks=0";
#endif
  RECLO_ASSIGN_OR_RETURN(os::Subprocess server, start_server(spawn));

  const auto size = wait_for_server(server, address, [&] { return last_words_of(log); }, cancel);
  if (!size.ok()) {
    server.terminate(std::chrono::seconds(2));
    return Error(size.error())
        .with(fmt::format("serving recovery point {}", options.point.short_hex()));
  }
  return NbdExport{server.pid(), options.socket_path, *size};
}

void stop_nbd_export(pid_t pid) { stop_server(pid, kPluginName); }

}  // namespace reclo::image
