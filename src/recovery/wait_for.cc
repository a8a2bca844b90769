#include "recovery/wait_for.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "os/fd.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kUnestablishedMax{1'000};
constexpr milliseconds kEstablishedMax{30'000};
constexpr milliseconds kCheckEvery{100};
constexpr milliseconds kPauseMin{100};
constexpr milliseconds kNotReadyPauseMin{500};
constexpr milliseconds kNotReadyPauseMax{5'000};
constexpr int kPauseForEachTaken = 2;           // the guest has two thirds of the time to itself
constexpr size_t kResponseSizeBytesMax = 4096;  // the status line is at its start
constexpr int kHttpServerError = 500;

Result<os::Fd> begin_connect(const WaitTarget& target) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_in);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET, target.address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(target.port);
  } else {
    length = sizeof(sockaddr_in6);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(target.port);
    ::inet_pton(AF_INET6, target.address.c_str(), &v6->sin6_addr);
  }
  os::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error::from_errno(errno, "make a socket");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0 &&
      errno != EINPROGRESS)
    return Error::from_errno(errno, "connect");
  return fd;
}

bool connected(const os::Fd& fd) {
  int failure = 0;
  socklen_t length = sizeof failure;
  return ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failure, &length) == 0 && failure == 0;
}

// One connection on its way to an answer.
class Attempt {
 public:
  Attempt(const WaitTarget& target, const EstablishedCheck& established)
      : target_(target), established_(established) {}

  Result<Probe> run(const CancelToken& cancel) {
    auto fd = begin_connect(target_);
    if (!fd.ok()) return Probe::kNobody;
    const CancelToken first = cancel.with_timeout(kUnestablishedMax);
    if (!wait_ready(*fd, POLLOUT, first).ok() || !connected(*fd)) return Probe::kNobody;
    if (!target_.http && !target_.forwarded) return Probe::kAnswered;
    const CancelToken last = cancel.with_timeout(kEstablishedMax);
    bool guest_side = !target_.forwarded;
    bool asked = false;
    for (;;) {
      // Not before: QEMU keeps what is sent to a guest that does not listen yet, also of
      // connections that were given up, and a server that comes up would work through all of it
      // first.
      if (guest_side && target_.http && !asked) send_request(*fd);
      asked = guest_side;
      if (!guest_side && first.fired()) return Probe::kNobody;
      if (!last.check().ok()) return Probe::kNotReady;
      const Status ready = wait_ready(*fd, POLLIN, last.with_timeout(kCheckEvery));
      if (ready.ok()) {
        const Heard heard = hear(*fd);
        if (heard == Heard::kAnswer) return Probe::kAnswered;
        // A forward whose guest refuses is closed without a word, too.
        if (heard == Heard::kNothing)
          return guest_side || !response_.empty() ? Probe::kNotReady : Probe::kNobody;
      }
      if (!guest_side) {
        RECLO_ASSIGN_OR_RETURN(guest_side, established_(target_));
        if (guest_side && !target_.http) return Probe::kAnswered;
      }
    }
  }

 private:
  enum class Heard { kAnswer, kNothing, kMore };

  void send_request(const os::Fd& fd) const {
    const std::string request =
        fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: reclo\r\nConnection: close\r\n\r\n",
                    target_.path, target_.host_header);
    // Far smaller than a fresh socket's buffer; a failure shows as a missing answer.
    [[maybe_unused]] const ssize_t sent =
        ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  }

  Heard hear(const os::Fd& fd) {
    char buffer[512];
    const ssize_t got = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Heard::kMore;
    if (got <= 0) return Heard::kNothing;
    if (!target_.http) return Heard::kAnswer;
    response_.append(buffer, static_cast<size_t>(got));
    const int status = http_status(response_);
    if (status != 0) return status < kHttpServerError ? Heard::kAnswer : Heard::kNothing;
    return response_.size() < kResponseSizeBytesMax ? Heard::kMore : Heard::kNothing;
  }

  const WaitTarget& target_;
  const EstablishedCheck& established_;
  std::string response_;
};

std::vector<std::string_view> words_of(std::string_view line) {
  static constexpr size_t kWordsMax = 16;
  std::vector<std::string_view> words;
  while (words.size() < kWordsMax) {
    const size_t start = line.find_first_not_of(" \t\r");
    if (start == line.npos) break;
    line.remove_prefix(start);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

}  // namespace

int http_status(std::string_view response) {
  // "HTTP/1.1 200 OK"
  if (response.size() < 12 || !response.starts_with("HTTP/1.") || response[8] != ' ') return 0;
  int status = 0;
  const char* end = response.data() + 12;
  const auto [stop, failure] = std::from_chars(response.data() + 9, end, status);
  return failure == std::errc() && stop == end && status >= 100 ? status : 0;
}

bool usernet_established(std::string_view info_usernet, const WaitTarget& target) {
  const std::string port = fmt::format("{}", target.port);
  while (!info_usernet.empty()) {
    const size_t end = std::min(info_usernet.find('\n'), info_usernet.size());
    // TCP[ESTABLISHED]  17  127.0.0.1 8080  10.0.2.15 80  0 0
    const auto words = words_of(info_usernet.substr(0, end));
    info_usernet.remove_prefix(std::min(end + 1, info_usernet.size()));
    if (words.size() >= 6 && words[0] == "TCP[ESTABLISHED]" && words[3] == port) return true;
  }
  return false;
}

Result<Probe> probe_target(const WaitTarget& target, const EstablishedCheck& established,
                           const CancelToken& cancel) {
  return Attempt(target, established).run(cancel);
}

milliseconds pause_after(Probe probe, std::chrono::nanoseconds attempt_took) {
  if (probe != Probe::kNotReady) return kPauseMin;
  const auto took = std::chrono::duration_cast<milliseconds>(attempt_took);
  return std::clamp(took * kPauseForEachTaken, kNotReadyPauseMin, kNotReadyPauseMax);
}

}  // namespace reclo::recovery
