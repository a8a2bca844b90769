// A client of a running QEMU's control socket (QMP).
//
// QEMU serves one client of a socket at a time and lets the next ones wait: connect, ask, and let
// go. Commands are answered in order; events that arrive meanwhile are kept (the newest 256).
// Thread rule: one thread at a time.
#pragma once

#include <deque>
#include <string>

#include "base/cancel.h"
#include "os/fd.h"
#include "recovery/qmp_message.h"

namespace reclo::recovery {

class QmpClient {
 public:
  /// Connects, reads the greeting, negotiates. Errors: kUnavailable (nobody listens), kTimeout,
  /// kCorruption (not QMP).
  static Result<QmpClient> connect(const std::string& socket_path, const CancelToken& cancel);

  /// Runs a command and returns its value. Errors: kInternal with QEMU's words when it refuses,
  /// kNotFound for its DeviceNotFound, kUnavailable when QEMU ends meanwhile, kTimeout.
  Result<nlohmann::json> execute(std::string_view command, const nlohmann::json& arguments,
                                 const CancelToken& cancel);
  Result<nlohmann::json> execute(std::string_view command, const CancelToken& cancel);

  /// Runs a line of the human monitor, for the few things QMP lacks. Returns its output.
  Result<std::string> human(const std::string& line, const CancelToken& cancel);

  /// The oldest event of that name not taken yet; waits for one. Errors as execute().
  Result<QmpMessage> wait_event(std::string_view name, const CancelToken& cancel);

 private:
  explicit QmpClient(os::Fd fd) : fd_(std::move(fd)) {}
  Status send(std::string_view text, const CancelToken& cancel);
  Result<QmpMessage> receive(const CancelToken& cancel);
  void keep_event(QmpMessage event);

  os::Fd fd_;
  LineBuffer lines_;
  std::deque<QmpMessage> events_;
  uint64_t next_id_ = 1;
};

}  // namespace reclo::recovery
