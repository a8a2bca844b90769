#include "image/nbd_server.h"

#include <fmt/format.h>
#include <libnbd.h>
#include <signal.h>
#include <sys/wait.h>

#include <future>
#include <memory>

#include "base/task_pool.h"
#include "os/file.h"

namespace reclo::image {
namespace {

constexpr std::chrono::seconds kStopGrace{10};

struct CloseNbd {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};

}  // namespace

Result<NbdAddress> parse_nbd_address(const std::string& socket_path,
                                     const std::string& listen_address) {
  if (socket_path.empty() == listen_address.empty())
    return Error(Code::kInvalidArgument, "give either a socket or an address to listen on");
  NbdAddress address;
  if (listen_address.empty()) {
    constexpr size_t kSocketPathMax = 107;  // sockaddr_un
    if (socket_path.size() > kSocketPathMax)
      return Error(Code::kInvalidArgument,
                   fmt::format("the socket's path is longer than {} bytes: {}", kSocketPathMax,
                               socket_path));
    address.socket_path = socket_path;
    return address;
  }
  const size_t colon = listen_address.rfind(':');
  if (colon == std::string::npos)
    return Error(Code::kInvalidArgument, fmt::format("'{}' is not HOST:PORT", listen_address));
  address.host = listen_address.substr(0, colon);
  address.port = listen_address.substr(colon + 1);
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  const bool digits = address.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || address.port.empty() || address.port.size() > 5 || address.host.starts_with('-'))
    return Error(Code::kInvalidArgument, fmt::format("'{}' is not HOST:PORT", listen_address));
  return address;
}

Result<uint64_t> ask_nbd_size(const NbdAddress& address) {
  const std::unique_ptr<nbd_handle, CloseNbd> handle(nbd_create());
  if (!handle) return Error(Code::kResourceExhausted, "no memory for an NBD connection");
  const std::string host = address.host.empty() ? "localhost" : address.host;
  const int connected = address.socket_path.empty()
                            ? nbd_connect_tcp(handle.get(), host.c_str(), address.port.c_str())
                            : nbd_connect_unix(handle.get(), address.socket_path.c_str());
  const int64_t size_bytes = connected == 0 ? nbd_get_size(handle.get()) : -1;
  if (size_bytes < 0) {
    const char* words = nbd_get_error();
    return Error(Code::kUnavailable, fmt::format("no NBD server answers at {}: {}", address.text(),
                                                 words != nullptr ? words : "no reason given"));
  }
  nbd_shutdown(handle.get(), 0);
  return static_cast<uint64_t>(size_bytes);
}

Result<os::Subprocess> start_server(const os::SpawnOptions& options) {
  // Never destroyed: its thread is the children's parent until this process ends.
  static TaskPool* const starter = new TaskPool(1);
  std::promise<Result<os::Subprocess>> promise;
  auto started = promise.get_future();
  starter->run([&] { promise.set_value(os::Subprocess::start(options)); });
  return started.get();
}

Result<uint64_t> wait_for_server(os::Subprocess& server, const NbdAddress& address,
                                 const std::function<Error()>& last_words,
                                 const CancelToken& cancel) {
  for (;;) {
    if (server.poll()) return last_words();
    if (address.socket_path.empty() || os::path_exists(address.socket_path)) {
      const auto size = ask_nbd_size(address);
      if (size.ok()) {
        // Somebody else may have had the address before: then ours has ended.
        if (server.poll()) return last_words();
        return size;
      }
    }
    const Status slept = cancel.sleep_for(std::chrono::milliseconds(10));
    if (!slept.ok())
      return Error(slept.error().code(),
                   fmt::format("the NBD server did not start: {}; its last words: {}",
                               slept.error().message(), last_words().message()));
  }
}

bool server_alive(pid_t pid, std::string_view needle) {
  if (pid <= 0) return false;
  // Ours to bury, or somebody else's child: then waitpid() says ECHILD.
  if (::waitpid(pid, nullptr, WNOHANG) == pid) return false;
  return os::process_alive(pid, needle);
}

void stop_server(pid_t pid, std::string_view needle) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (!server_alive(pid, needle)) return;
    ::kill(pid, signal);
    const CancelToken limit = CancelToken().with_timeout(kStopGrace);
    while (!limit.fired() && server_alive(pid, needle))
      ignore_error(limit.sleep_for(std::chrono::milliseconds(10)), "the loop asks");
  }
}

std::string nbd_uri(const std::string& socket_path, std::string_view export_name) {
  std::string encoded;
  for (const char c : socket_path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("/-._~").find(c) != std::string_view::npos;
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return fmt::format("nbd+unix:///{}?socket={}", export_name, encoded);
}

std::string end_of_log(const std::string& path, size_t size_bytes_max) {
  const auto fd = os::open_file(path, os::OpenMode::kRead);
  if (!fd.ok()) return "";
  const auto size = os::file_size_bytes(path);
  if (!size.ok() || *size == 0) return "";
  const uint64_t part = std::min<uint64_t>(*size, size_bytes_max);
  Bytes tail(part);
  if (!os::read_at(*fd, *size - part, tail).ok()) return "";
  std::string text(as_text(tail));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace reclo::image
