// What can go wrong, as a value.
//
// An Error says what happened, to what, and (in its message) what to do. A Code exists only where
// some caller acts on it. Layers add context once each with `with()`. Errors are immutable after
// they are returned and safe to copy between threads. They never carry secrets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace reclo {

enum class Code : uint8_t {
  kInvalidArgument,    // the request makes no sense: a flag, a name, a size
  kNotFound,           // the named thing is not there
  kAlreadyExists,      // write-once: the key is taken
  kPermissionDenied,   // known to the other side, and refused
  kUnauthenticated,    // wrong passphrase, signature or credential
  kCorruption,         // stored bytes are not what was written; never retried silently
  kIo,                 // a disk or file failed
  kNoSpace,            // a local disk or the store is full
  kUnavailable,        // the other side cannot be reached now
  kTimeout,            // no answer by the deadline
  kCancelled,          // the user or a signal asked to stop
  kConflict,           // somebody else holds it, or won the race
  kResourceExhausted,  // a limit of ours was reached
  kUnsupported,        // a newer format, a missing feature
  kInternal,           // a broken invariant of ours
};

/// The code's name in a machine's eyes ("not_found"), stable: it is part of --json output.
std::string_view code_name(Code code);

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  /// An error from errno: maps ENOENT, EACCES, ENOSPC … to codes and adds strerror's text.
  static Error from_errno(int os_error, std::string_view what);

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  int os_error() const { return os_error_; }
  /// Whether the same call may succeed later. Read by net/ and store/retry only.
  bool retryable() const { return retryable_; }

  Error&& set_retryable(bool retryable) && {
    retryable_ = retryable;
    return std::move(*this);
  }
  /// Puts "context: " before the message.
  Error&& with(std::string_view context) && {
    message_ = std::string(context) + ": " + message_;
    return std::move(*this);
  }

 private:
  Code code_;
  bool retryable_ = false;
  int os_error_ = 0;
  std::string message_;
};

}  // namespace reclo
