#include "net/throttle.h"

#include <algorithm>

namespace reclo::net {

Throttle::Throttle(uint64_t rate_per_second, std::chrono::milliseconds burst)
    : burst_(burst), rate_per_second_(rate_per_second), next_free_(Clock::now() - burst) {}

Throttle::Clock::duration Throttle::cost_of(uint64_t amount) const {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
      static_cast<double>(amount) / static_cast<double>(rate_per_second_)));
}

Throttle::Clock::time_point Throttle::reserve(Clock::duration cost) {
  const Clock::time_point start = std::max(next_free_, Clock::now() - burst_);
  next_free_ = start + cost;
  return start;
}

void Throttle::book(uint64_t amount) {
  const std::lock_guard lock(mutex_);
  if (rate_per_second_ != 0) reserve(cost_of(amount));
}

Status Throttle::take(uint64_t amount, const CancelToken& cancel) {
  Clock::duration cost{};
  Clock::time_point start;
  {
    const std::lock_guard lock(mutex_);
    if (rate_per_second_ == 0) return cancel.check();
    cost = cost_of(amount);
    start = reserve(cost);
  }
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(start - Clock::now());
  Status waited = wait.count() > 0 ? cancel.sleep_for(wait) : cancel.check();
  if (!waited.ok()) {
    const std::lock_guard lock(mutex_);
    next_free_ -= cost;
  }
  return waited;
}

void Throttle::set_rate(uint64_t rate_per_second) {
  const std::lock_guard lock(mutex_);
  rate_per_second_ = rate_per_second;
}

}  // namespace reclo::net
