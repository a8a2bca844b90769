// A request rate that finds the service's limit: halfway down when it throttles, slowly up again.
//
// Additive increase, multiplicative decrease (Chiu and Jain 1989), as in TCP: many clients of one
// account come to fair shares without knowing of each other. Safe from any thread.
#pragma once

#include <chrono>
#include <mutex>

#include "base/cancel.h"
#include "base/result.h"
#include "net/throttle.h"

namespace reclo::net {

class AdaptiveRate {
 public:
  using Clock = std::chrono::steady_clock;
  /// Starts at, and never exceeds, the service's quota: `per_second_max` > 0 requests a second.
  explicit AdaptiveRate(uint64_t per_second_max);

  /// Waits for its turn. Errors: kCancelled, kTimeout.
  Status take(const CancelToken& cancel) { return throttle_.take(1, cancel); }
  /// The service throttled a request. Requests in flight fail together: one cut a second.
  void throttled(Clock::time_point now = Clock::now());
  void succeeded(Clock::time_point now = Clock::now());
  uint64_t per_second() const;

 private:
  const uint64_t per_second_max_;
  Throttle throttle_;
  mutable std::mutex mutex_;
  uint64_t per_second_;
  Clock::time_point changed_;
};

}  // namespace reclo::net
