#include "net/retry.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/units.h"
#include "os/random.h"

namespace reclo::net {

Status Retrier::wait_after(const Error& failure, const CancelToken& cancel) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::steady_clock::now();
  if (failures_ == 0) first_failure_ = now;
  ++failures_;
  const auto spent = now - first_failure_;
  if (spent >= policy_.patience)
    return Error(failure.code(),
                 fmt::format("gave up on {} after {} and {} attempts: {}", endpoint_,
                             format_duration(spent), failures_, failure.message()));
  const unsigned doublings = std::min(failures_ - 1, 20u);
  const milliseconds ceiling =
      std::min(policy_.delay_max, milliseconds(policy_.first_delay.count() << doublings));
  const auto jittered = milliseconds(os::random_below(static_cast<uint64_t>(ceiling.count()) + 1));
  const auto left = std::chrono::ceil<milliseconds>(policy_.patience - spent);
  return cancel.sleep_for(std::min(jittered, left));
}

std::chrono::steady_clock::duration Retrier::failing_for() const {
  return failures_ == 0 ? std::chrono::steady_clock::duration::zero()
                        : std::chrono::steady_clock::now() - first_failure_;
}

bool is_retryable_answer(int status, std::string_view aws_code) {
  static constexpr std::array<std::string_view, 17> kCodes = {"InternalError",
                                                              "SlowDown",
                                                              "ServiceUnavailable",
                                                              "RequestTimeout",
                                                              "RequestTimeoutException",
                                                              "Throttling",
                                                              "ThrottlingException",
                                                              "ThrottledException",
                                                              "RequestLimitExceeded",
                                                              "TooManyRequestsException",
                                                              "BandwidthLimitExceeded",
                                                              "RequestThrottled",
                                                              "OperationAborted",
                                                              "RequestThrottledException",
                                                              "RequestThrottleException",
                                                              "InternalServerException",
                                                              "Unavailable"};
  if (status == 500 || status == 502 || status == 503 || status == 504 || status == 429)
    return true;
  return std::find(kCodes.begin(), kCodes.end(), aws_code) != kCodes.end();
}

}  // namespace reclo::net
