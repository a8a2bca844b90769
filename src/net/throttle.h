// A limit on a rate: bytes or requests per second, shared by many threads.
//
// take(n) waits until n may pass. Whoever asks first passes first; a large n passes as a whole and
// makes the next ones wait for it, so the average holds whatever the sizes. Safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

#include "base/cancel.h"
#include "base/result.h"

namespace reclo::net {

class Throttle {
 public:
  /// 0: no limit. After a pause, up to `burst` worth of the rate passes without waiting.
  explicit Throttle(uint64_t rate_per_second,
                    std::chrono::milliseconds burst = std::chrono::milliseconds(250));

  /// Errors: kCancelled or kTimeout; the share is then given back.
  Status take(uint64_t amount, const CancelToken& cancel);
  /// Lets `amount` pass that cannot be held back any more; those who come next wait for it.
  void book(uint64_t amount);
  /// For timetables. Those who wait already keep their turn.
  void set_rate(uint64_t rate_per_second);

 private:
  using Clock = std::chrono::steady_clock;
  // Moves next_free_ past `amount`; returns when it began. Needs the mutex.
  Clock::time_point reserve(Clock::duration cost);
  Clock::duration cost_of(uint64_t amount) const;

  const Clock::duration burst_;
  std::mutex mutex_;
  uint64_t rate_per_second_;
  Clock::time_point next_free_;  // when everything granted so far has passed
};

}  // namespace reclo::net
