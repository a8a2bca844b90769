// A process that may outlive the one that started it: its pid, and what tells it from a later
// process that got the same pid. Values; any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace reclo::recovery {

struct ProcessRef {
  pid_t pid = -1;
  uint64_t start_ticks = 0;  // since boot, from /proc/PID/stat
  std::string boot_id;       // /proc/sys/kernel/random/boot_id at that time

  bool known() const { return pid > 0; }
  bool operator==(const ProcessRef&) const = default;
};

/// The process that has this pid now; not known() when there is none.
ProcessRef process_ref(pid_t pid);

/// Whether exactly that process still runs. A zombie does not; it is reaped when it is our child.
bool is_running(const ProcessRef& process);

/// SIGTERM, after `grace` SIGKILL; waits until it is gone. Success when it is not running.
/// Errors: kTimeout when even SIGKILL does not end it (a process stuck in the kernel).
Status end_process(const ProcessRef& process, std::chrono::milliseconds grace);

/// The process that listens on a Unix socket (SO_PEERCRED), or nothing when nobody does: finds
/// servers whose starter was killed before it could note their pid.
std::optional<pid_t> listening_process(const std::string& socket_path);

/// The process one of whose arguments is `value`, or ends with "=" and it; not this one. Finds a
/// server that does not listen yet. Looks at every process once.
ProcessRef process_with_argument(const std::string& value);

/// The field values of /proc/PID/stat that matter here. Nothing when the text is malformed.
struct ProcessStat {
  char state = '?';
  uint64_t start_ticks = 0;
};
std::optional<ProcessStat> parse_process_stat(std::string_view text);

}  // namespace reclo::recovery
