// When to try a call again, and how long to wait.
//
//   Retrier retrier(policy, "https://s3.example");
//   for (;;) {
//     auto answer = attempt();
//     if (answer.ok() || !answer.error().retryable()) return answer;
//     RECLO_TRY(retrier.wait_after(answer.error(), cancel));
//   }
// Waits grow exponentially with full jitter, so that many clients that failed together do not come
// back together. Trying ends `patience` after the first of the failures in a row.
// One thread at a time; one Retrier per call.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/cancel.h"
#include "base/error.h"
#include "base/result.h"
#include "net/http_client.h"

namespace reclo::net {

struct RetryPolicy {
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds delay_max{10'000};
  /// A network cut for a minute must be survived, one for ever must be told.
  std::chrono::milliseconds patience{std::chrono::minutes(5)};
};

class Retrier {
 public:
  /// `endpoint` is named in the final error.
  Retrier(const RetryPolicy& policy, std::string endpoint)
      : policy_(policy), endpoint_(std::move(endpoint)) {}

  /// Sleeps. Errors: the final, no longer retryable one (the failure's code, with the endpoint and
  /// the last failure in its words), kCancelled, kTimeout.
  Status wait_after(const Error& failure, const CancelToken& cancel);
  unsigned failures() const { return failures_; }
  /// Since the first of the failures in a row; zero before it.
  std::chrono::steady_clock::duration failing_for() const;

 private:
  const RetryPolicy policy_;
  const std::string endpoint_;
  unsigned failures_ = 0;
  std::chrono::steady_clock::time_point first_failure_;
};

/// Whether a service's answer means "the same again later": 500, 502, 503, 504, 429, and the AWS
/// error codes that say so under other statuses ("SlowDown", "RequestTimeout", …). `aws_code` may
/// be empty.
bool is_retryable_answer(int status, std::string_view aws_code);

}  // namespace reclo::net
