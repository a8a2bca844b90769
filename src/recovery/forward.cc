#include "recovery/forward.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <optional>

#include "os/fd.h"

namespace reclo::recovery {
namespace {

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

bool is_ipv4(const std::string& text) {
  in_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& text) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

Error bad_target(std::string_view text) {
  return Error(Code::kInvalidArgument,
               fmt::format("'{}' is not tcp:PORT, tcp:ADDR:PORT, http:PORT/PATH or "
                           "http://ADDR:PORT/PATH with a numeric address (or localhost)",
                           text));
}

// "PORT", "ADDR:PORT" or "[ADDR6]:PORT" into the target. False: none of these.
bool read_address(std::string_view text, WaitTarget& target) {
  const size_t colon = text.rfind(':');
  const auto port = parse_port(colon == text.npos ? text : text.substr(colon + 1));
  if (!port || *port == 0) return false;
  target.port = *port;
  if (colon == text.npos) return true;
  std::string_view host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  target.address = host == "localhost" ? "127.0.0.1" : std::string(host);
  return is_ipv4(target.address) || is_ipv6(target.address);
}

void match_forward(const std::vector<Forward>& forwards, WaitTarget& target) {
  const Forward* found = nullptr;
  for (const Forward& forward : forwards)
    if (forward.host_port == target.port && found == nullptr) found = &forward;
  if (target.address.empty()) {
    for (const Forward& forward : forwards)
      if (forward.guest_port == target.port && found == nullptr) found = &forward;
    const bool anywhere = found == nullptr || found->host_address == "0.0.0.0";
    target.address = anywhere ? "127.0.0.1" : found->host_address;
    if (found != nullptr) target.port = found->host_port;
  }
  target.forwarded = found != nullptr &&
                     (found->host_address == "0.0.0.0" || found->host_address == target.address);
}

}  // namespace

Result<Forward> parse_forward(std::string_view text) {
  const Error bad(Code::kInvalidArgument,
                  fmt::format("forward '{}' is not PORT:GUESTPORT or ADDR:PORT:GUESTPORT with an "
                              "IPv4 address",
                              text));
  const size_t last = text.rfind(':');
  if (last == text.npos) return bad;
  const std::string_view host = text.substr(0, last);
  const auto guest_port = parse_port(text.substr(last + 1));
  const size_t middle = host.rfind(':');
  const auto host_port = parse_port(middle == host.npos ? host : host.substr(middle + 1));
  Forward out;
  if (middle != host.npos) out.host_address = host.substr(0, middle);
  if (!host_port || !guest_port || *guest_port == 0 || !is_ipv4(out.host_address)) return bad;
  out.host_port = *host_port;
  out.guest_port = *guest_port;
  return out;
}

std::string format_forward(const Forward& forward) {
  return fmt::format("{}:{}:{}", forward.host_address, forward.host_port, forward.guest_port);
}

Status pick_free_ports(std::vector<Forward>& forwards) {
  std::vector<os::Fd> held;  // until all are picked, so that no port is picked twice
  for (Forward& forward : forwards) {
    if (forward.host_port != 0) continue;
    os::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return Error::from_errno(errno, "make a socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, forward.host_address.c_str(), &address.sin_addr);
    socklen_t length = sizeof address;
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
      return Error::from_errno(errno, fmt::format("find a free port at {}", forward.host_address));
    forward.host_port = ntohs(address.sin_port);
    held.push_back(std::move(fd));
  }
  return {};
}

Result<WaitTarget> parse_wait_target(std::string_view text, const std::vector<Forward>& forwards) {
  WaitTarget target;
  std::string_view address;
  if (text.starts_with("tcp:")) {
    address = text.substr(4);
  } else if (text.starts_with("http:")) {
    target.http = true;
    address = text.substr(text.starts_with("http://") ? 7 : 5);
    const size_t slash = address.find('/');
    if (slash != address.npos) target.path = address.substr(slash);
    address = address.substr(0, slash);
  } else {
    return bad_target(text);
  }
  for (const char c : target.path)
    if (c <= ' ' || c == 0x7f) return bad_target(text);
  if (!read_address(address, target)) return bad_target(text);
  match_forward(forwards, target);
  target.host_header = fmt::format(fmt::runtime(is_ipv6(target.address) ? "[{}]:{}" : "{}:{}"),
                                   target.address, target.port);
  return target;
}

Status check_wait_target(std::string_view text) {
  RECLO_TRY(parse_wait_target(text, {}));
  return {};
}

}  // namespace reclo::recovery
