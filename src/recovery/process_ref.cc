#include "recovery/process_ref.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include "base/cancel.h"
#include "os/file.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

constexpr size_t kProcFileSizeBytesMax = 64 * 1024;
constexpr size_t kCmdlineSizeBytesMax = 4 * 1024 * 1024;
constexpr int kStartTicksField = 22;  // proc(5), counted from 1
constexpr int kStateField = 3;

std::optional<ProcessStat> read_stat(pid_t pid) {
  const auto content = os::read_file(fmt::format("/proc/{}/stat", pid), kProcFileSizeBytesMax);
  if (!content.ok()) return std::nullopt;
  return parse_process_stat(as_text(*content));
}

std::string current_boot_id() {
  const auto content = os::read_file("/proc/sys/kernel/random/boot_id", kProcFileSizeBytesMax);
  if (!content.ok()) return "";
  std::string text(as_text(*content));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool wait_until_gone(const ProcessRef& process, std::chrono::milliseconds limit) {
  const CancelToken deadline = CancelToken().with_timeout(limit);
  while (is_running(process))
    if (!deadline.sleep_for(std::chrono::milliseconds(10)).ok()) return !is_running(process);
  return true;
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // "pid (name) state ppid …": the name may hold spaces and brackets, so start after the last one.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(name_end + 1);
  ProcessStat out;
  for (int field = kStateField; !rest.empty(); ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (word.empty()) return std::nullopt;
    if (field == kStateField) out.state = word[0];
    if (field == kStartTicksField) {
      const auto [end, failure] =
          std::from_chars(word.data(), word.data() + word.size(), out.start_ticks);
      if (failure != std::errc() || end != word.data() + word.size()) return std::nullopt;
      return out;
    }
    rest.remove_prefix(word.size());
  }
  return std::nullopt;
}

ProcessRef process_ref(pid_t pid) {
  if (pid <= 0) return {};
  const auto stat = read_stat(pid);
  if (!stat) return {};
  return {pid, stat->start_ticks, current_boot_id()};
}

bool is_running(const ProcessRef& process) {
  if (!process.known()) return false;
  const auto stat = read_stat(process.pid);
  if (!stat || stat->start_ticks != process.start_ticks) return false;
  if (stat->state == 'Z' || stat->state == 'X') {
    ::waitpid(process.pid, nullptr, WNOHANG);
    return false;
  }
  return process.boot_id == current_boot_id();
}

Status end_process(const ProcessRef& process, std::chrono::milliseconds grace) {
  if (!is_running(process)) return {};
  ::kill(process.pid, SIGTERM);
  if (wait_until_gone(process, grace)) return {};
  ::kill(process.pid, SIGKILL);
  if (wait_until_gone(process, std::chrono::seconds(20))) return {};
  return Error(Code::kTimeout, fmt::format("process {} does not end, not even by SIGKILL; a disk "
                                           "or network file system may hang under it",
                                           process.pid));
}

ProcessRef process_with_argument(const std::string& value) {
  const auto names = os::list_directory("/proc");
  if (!names.ok()) return {};
  for (const std::string& name : *names) {
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure != std::errc() || end != name.data() + name.size() || pid == ::getpid()) continue;
    const auto content = os::read_file(fmt::format("/proc/{}/cmdline", name), kCmdlineSizeBytesMax);
    if (!content.ok()) continue;
    std::string_view rest = as_text(*content);
    while (!rest.empty()) {
      const std::string_view argument = rest.substr(0, rest.find('\0'));
      if (argument == value || argument.ends_with("=" + value)) return process_ref(pid);
      rest.remove_prefix(std::min(argument.size() + 1, rest.size()));
    }
  }
  return {};
}

std::optional<pid_t> listening_process(const std::string& socket_path) {
  const auto fd = connect_unix(socket_path);
  if (!fd.ok()) return std::nullopt;
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid <= 0)
    return std::nullopt;
  return peer.pid;
}

}  // namespace reclo::recovery
