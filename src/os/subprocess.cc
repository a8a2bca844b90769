#include "os/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/bytes.h"
#include "os/file.h"

extern char** environ;

namespace reclo::os {
namespace {

constexpr size_t kOutputSizeBytesMax = size_t{16} << 20;

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& extra) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!extra.contains(std::string(text.substr(0, text.find('='))))) out.emplace_back(text);
  }
  for (const auto& [name, value] : extra) out.push_back(name + "=" + value);
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& text : strings) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

int exit_code_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

// Everything the child needs, prepared before fork(): after it only async-signal-safe calls.
struct ChildPlan {
  std::string program;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::vector<char*> argv_pointers;
  std::vector<char*> environment_pointers;
  Fd null_fd, out_fd, err_fd;
  std::vector<std::pair<int, int>> descriptors;  // {from, to}, with 0, 1, 2
  bool new_session = false;
  bool die_with_parent = false;
};

[[noreturn]] void run_child(ChildPlan& plan, int report_fd) {
  if (plan.new_session) ::setsid();
  if (plan.die_with_parent) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  // Move sources above every target first, so that no dup2 overwrites one still needed.
  int lifted[32];
  int report = ::fcntl(report_fd, F_DUPFD_CLOEXEC, 500);
  size_t count = 0;
  for (const auto& [from, to] : plan.descriptors)
    if (count < 32) lifted[count++] = ::fcntl(from, F_DUPFD_CLOEXEC, 600);
  for (size_t i = 0; i < count; ++i) ::dup2(lifted[i], plan.descriptors[i].second);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execve(plan.program.c_str(), plan.argv_pointers.data(), plan.environment_pointers.data());
  const int failure = errno;
  [[maybe_unused]] const ssize_t put = ::write(report, &failure, sizeof failure);
  ::_exit(127);
}

Result<Fd> open_output(const std::string& path) {
  const char* target = path.empty() ? "/dev/null" : path.c_str();
  Fd fd(::open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return Error::from_errno(errno, fmt::format("open {}", target));
  return fd;
}

Result<pid_t> spawn(ChildPlan& plan) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  const Fd report_in(pipe_fds[0]);
  Fd report_out(pipe_fds[1]);
  plan.argv_pointers = pointers(plan.argv);
  plan.environment_pointers = pointers(plan.environment);
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno(errno, "fork");
  if (pid == 0) run_child(plan, report_out.get());
  RECLO_TRY(report_out.close());
  int failure = 0;
  ssize_t got;
  do {
    got = ::read(report_in.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof failure) {
    ::waitpid(pid, nullptr, 0);
    return Error::from_errno(failure, "start " + plan.program);
  }
  return pid;
}

Result<ChildPlan> plan_child(const std::vector<std::string>& argv,
                             const std::map<std::string, std::string>& environment) {
  RECLO_CHECK(!argv.empty());
  const std::optional<std::string> program = find_program(argv[0]);
  if (!program)
    return Error(Code::kNotFound, fmt::format("the program '{}' is not installed", argv[0]));
  ChildPlan plan;
  plan.program = *program;
  plan.argv = argv;
  plan.environment = merged_environment(environment);
  plan.null_fd = Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  return plan;
}

}  // namespace

Result<Subprocess> Subprocess::start(const SpawnOptions& options) {
  RECLO_ASSIGN_OR_RETURN(ChildPlan plan, plan_child(options.argv, options.environment));
  RECLO_ASSIGN_OR_RETURN(plan.out_fd, open_output(options.stdout_path));
  RECLO_ASSIGN_OR_RETURN(plan.err_fd, open_output(options.stderr_path));
  plan.new_session = options.new_session;
  plan.die_with_parent = options.die_with_parent;
  plan.descriptors = {{plan.null_fd.get(), 0}, {plan.out_fd.get(), 1}, {plan.err_fd.get(), 2}};
  for (const auto& entry : options.inherit) plan.descriptors.push_back(entry);
  RECLO_ASSIGN_OR_RETURN(const pid_t pid, spawn(plan));
  return Subprocess(pid);
}

std::optional<int> Subprocess::poll() {
  if (exit_code_) return exit_code_;
  int status = 0;
  const pid_t got = ::waitpid(pid_, &status, WNOHANG);
  if (got == pid_) exit_code_ = exit_code_of(status);
  if (got < 0) exit_code_ = 127;  // not ours to wait for any more
  return exit_code_;
}

Result<int> Subprocess::wait(const CancelToken& cancel) {
  for (;;) {
    if (const auto code = poll()) return *code;
    RECLO_TRY(cancel.sleep_for(std::chrono::milliseconds(20)));
  }
}

void Subprocess::kill(int signal) const {
  if (pid_ > 0 && !exit_code_) ::kill(pid_, signal);
}

void Subprocess::terminate(std::chrono::milliseconds grace) {
  if (poll()) return;
  kill(SIGTERM);
  if (wait(CancelToken().with_timeout(grace)).ok()) return;
  kill(SIGKILL);
  ignore_error(wait(CancelToken().with_timeout(std::chrono::seconds(10))),
               "SIGKILL cannot be refused");
}

Result<Output> run_command(const std::vector<std::string>& argv, const CancelToken& cancel,
                           const std::map<std::string, std::string>& environment) {
  RECLO_ASSIGN_OR_RETURN(ChildPlan plan, plan_child(argv, environment));
  int out_pipe[2];
  int err_pipe[2];
  if (::pipe2(out_pipe, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  const Fd out_in(out_pipe[0]);
  plan.out_fd = Fd(out_pipe[1]);
  if (::pipe2(err_pipe, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  const Fd err_in(err_pipe[0]);
  plan.err_fd = Fd(err_pipe[1]);
  plan.descriptors = {{plan.null_fd.get(), 0}, {plan.out_fd.get(), 1}, {plan.err_fd.get(), 2}};
  RECLO_ASSIGN_OR_RETURN(const pid_t pid, spawn(plan));
  RECLO_TRY(plan.out_fd.close());
  RECLO_TRY(plan.err_fd.close());

  Output output;
  pollfd polls[2] = {{out_in.get(), POLLIN, 0}, {err_in.get(), POLLIN, 0}};
  std::string* sinks[2] = {&output.out, &output.err};
  int open_count = 2;
  Status stopped;
  while (open_count > 0 && stopped.ok()) {
    stopped = cancel.check();
    if (!stopped.ok() || ::poll(polls, 2, 100) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (polls[i].fd < 0 || polls[i].revents == 0) continue;
      char buffer[8192];
      const ssize_t got = ::read(polls[i].fd, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        polls[i].fd = -1;
        --open_count;
      } else if (sinks[i]->size() < kOutputSizeBytesMax) {
        sinks[i]->append(buffer, static_cast<size_t>(got));
      }
    }
  }
  if (!stopped.ok()) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  RECLO_TRY_WITH(stopped, argv[0]);
  output.exit_code = exit_code_of(status);
  return output;
}

Result<std::string> run_checked(const std::vector<std::string>& argv, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(Output output, run_command(argv, cancel));
  if (output.exit_code == 0) return std::move(output.out);
  std::string words = output.err.empty() ? output.out : output.err;
  while (!words.empty() && words.back() == '\n') words.pop_back();
  if (words.size() > 2000) words = words.substr(words.size() - 2000);
  return Error(Code::kIo,
               fmt::format("{} failed with exit code {}: {}", argv[0], output.exit_code, words));
}

bool process_alive(pid_t pid, std::string_view needle) {
  if (pid <= 0) return false;
  const auto content = read_file(fmt::format("/proc/{}/cmdline", pid), 1 << 20);
  if (!content.ok()) return false;
  std::string text(as_text(*content));
  for (char& c : text)
    if (c == '\0') c = ' ';
  return text.find(needle) != std::string::npos && !text.empty();
}

std::optional<std::string> find_program(std::string_view name) {
  const auto usable = [](const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string_view::npos) {
    std::string path(name);
    if (usable(path)) return path;
    return std::nullopt;
  }
  const char* from_environment = std::getenv("PATH");
  std::string search = from_environment != nullptr ? from_environment : "/usr/bin:/bin";
  search += ":/usr/sbin:/sbin";
  size_t start = 0;
  while (start <= search.size()) {
    const size_t end = std::min(search.find(':', start), search.size());
    const std::string path = join_path(search.substr(start, end - start), name);
    if (end > start && usable(path)) return path;
    start = end + 1;
  }
  return std::nullopt;
}

Result<std::string> self_executable() {
  char buffer[4096];
  const ssize_t length = ::readlink("/proc/self/exe", buffer, sizeof buffer - 1);
  if (length < 0) return Error::from_errno(errno, "read /proc/self/exe");
  return std::string(buffer, static_cast<size_t>(length));
}

}  // namespace reclo::os
