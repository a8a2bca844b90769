#include "net/adaptive_rate.h"

#include <algorithm>

namespace reclo::net {
namespace {

constexpr auto kStep = std::chrono::seconds(1);
constexpr uint64_t kStepsToFull = 20;  // from nothing back to the quota in so many steps

}  // namespace

AdaptiveRate::AdaptiveRate(uint64_t per_second_max)
    : per_second_max_(std::max<uint64_t>(per_second_max, 1)),
      throttle_(per_second_max_),
      per_second_(per_second_max_) {}

void AdaptiveRate::throttled(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (now - changed_ < kStep) return;
  changed_ = now;
  per_second_ = std::max<uint64_t>(per_second_ / 2, 1);
  throttle_.set_rate(per_second_);
}

void AdaptiveRate::succeeded(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (per_second_ == per_second_max_ || now - changed_ < kStep) return;
  changed_ = now;
  per_second_ = std::min(per_second_max_,
                         per_second_ + std::max<uint64_t>(per_second_max_ / kStepsToFull, 1));
  throttle_.set_rate(per_second_);
}

uint64_t AdaptiveRate::per_second() const {
  const std::lock_guard lock(mutex_);
  return per_second_;
}

}  // namespace reclo::net
