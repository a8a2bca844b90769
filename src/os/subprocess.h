// Child processes: run one to its end and collect its output, or start one and keep it.
//
// Never a shell: programs get an argument vector. Descriptors are not inherited unless listed.
// A child dies with its parent only when asked (`die_with_parent`).
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "os/fd.h"

namespace reclo::os {

struct SpawnOptions {
  std::vector<std::string> argv;                   // argv[0] is looked up in PATH
  std::map<std::string, std::string> environment;  // added to (or replacing in) our own
  std::vector<std::pair<int, int>> inherit;        // {our descriptor, its number in the child}
  std::string stdout_path;                         // appended to, 0600; empty: /dev/null
  std::string stderr_path;                         // same; equal to stdout_path shares the file
  bool new_session = false;                        // setsid: survives our terminal and our death
  bool die_with_parent = false;                    // PR_SET_PDEATHSIG
};

struct Output {
  int exit_code = 0;  // 128 + n when a signal n ended it
  std::string out;
  std::string err;
};

/// A started child. Destruction neither waits nor kills: say which.
class Subprocess {
 public:
  static Result<Subprocess> start(const SpawnOptions& options);
  pid_t pid() const { return pid_; }
  /// The exit code if it has ended.
  std::optional<int> poll();
  Result<int> wait(const CancelToken& cancel);
  void kill(int signal) const;
  /// SIGTERM, then SIGKILL after `grace`; reaps it.
  void terminate(std::chrono::milliseconds grace);

 private:
  explicit Subprocess(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

/// Runs to the end with stdin closed; both outputs capped at 16 MiB. The child is killed when
/// `cancel` fires. A non-zero exit code is not an error here.
Result<Output> run_command(const std::vector<std::string>& argv, const CancelToken& cancel,
                           const std::map<std::string, std::string>& environment = {});
/// As run_command, but a non-zero exit is kIo with the command's last words.
Result<std::string> run_checked(const std::vector<std::string>& argv, const CancelToken& cancel);

/// Whether `pid` lives and its command line holds `needle` (guards against reused pids).
bool process_alive(pid_t pid, std::string_view needle);
/// Full path of a program in PATH (or /usr/sbin, /sbin); nothing when it is not installed.
std::optional<std::string> find_program(std::string_view name);
/// Full path of this very executable.
Result<std::string> self_executable();

}  // namespace reclo::os
