// Cancellation: every blocking call takes a CancelToken and returns kCancelled or kTimeout soon
// after it fires. Tokens are cheap to copy and safe from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>

#include "base/result.h"

namespace reclo {

class CancelToken {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Never fires.
  CancelToken() = default;
  explicit CancelToken(std::stop_token stop) : stop_(std::move(stop)) {}

  /// The same token that also fires (as kTimeout) after `timeout`, if that is sooner.
  CancelToken with_timeout(std::chrono::milliseconds timeout) const {
    CancelToken token = *this;
    const Time at = std::chrono::steady_clock::now() + timeout;
    if (!token.deadline_ || at < *token.deadline_) token.deadline_ = at;
    return token;
  }
  bool fired() const {
    return stop_.stop_requested() || (deadline_ && std::chrono::steady_clock::now() >= *deadline_);
  }
  /// kCancelled, kTimeout or success.
  Status check() const {
    if (stop_.stop_requested()) return Error(Code::kCancelled, "stopped on request");
    if (deadline_ && std::chrono::steady_clock::now() >= *deadline_)
      return Error(Code::kTimeout, "no answer in time");
    return {};
  }
  /// Sleeps, but not past the firing; then as check().
  Status sleep_for(std::chrono::milliseconds duration) const;

  const std::stop_token& stop_token() const { return stop_; }
  std::optional<Time> deadline() const { return deadline_; }

 private:
  std::stop_token stop_;
  std::optional<Time> deadline_;
};

}  // namespace reclo
