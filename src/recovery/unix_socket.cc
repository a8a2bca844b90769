#include "recovery/unix_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace reclo::recovery {

Result<os::Fd> connect_unix(const std::string& path) {
  if (path.empty() || path.size() > kSocketPathSizeMax)
    return Error(Code::kInvalidArgument, fmt::format("socket path '{}' has not 1 to {} characters",
                                                     path, kSocketPathSizeMax));
  os::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error::from_errno(errno, "make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  // A Unix socket connects at once or not at all (EAGAIN: its queue is full).
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return Error(Code::kUnavailable,
                 fmt::format("nobody answers on {}: {}", path, std::strerror(errno)));
  return fd;
}

Status wait_ready(const os::Fd& fd, short events, const CancelToken& cancel) {
  for (;;) {
    pollfd entry{fd.get(), events, 0};
    const int count = ::poll(&entry, 1, 20);
    if (count > 0) return {};
    if (count < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    RECLO_TRY(cancel.check());
  }
}

}  // namespace reclo::recovery
