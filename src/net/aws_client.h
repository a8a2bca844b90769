// Signed requests to one service of AWS (or one that speaks like it), tried again as long as that
// makes sense.
//
// What a try may come back with, and what is done about it:
//   transport error, 5xx, SlowDown …     wait with back-off, again, until the patience is spent
//   the clock is wrong                   learn the service's clock from its Date, again once
//   the session token has expired        fetch new credentials, again once
//   anything else                        the Error that the service's own module words
// Safe from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/adaptive_rate.h"
#include "net/aws_credentials.h"
#include "net/http_client.h"
#include "net/retry.h"

namespace reclo::net {

struct AwsClientOptions {
  std::string endpoint;  // "https://ec2.eu-central-1.amazonaws.com", for messages
  std::string region;    // "eu-central-1"
  std::string service;   // "s3", "ec2", "ebs", "sts": what the signature names
  RetryPolicy retry;
  HttpClientOptions http;
  /// Paces every try, when set; shared by the clients that share a quota.
  std::shared_ptr<AdaptiveRate> rate;
};

/// What a service said when it refused.
struct AwsRefusal {
  std::string code;  // "SlowDown"; empty when it gave none
  Error error;       // in words that a user can act on
  /// Whether it may be tried again; not set: by the status and the code (net/retry.h).
  std::optional<bool> retryable;
};

struct AwsAnswer {
  HttpResponse response;
  /// An earlier try failed in a way after which the service may have carried it out.
  bool ambiguous = false;
};

class AwsClient {
 public:
  using Explain = std::function<AwsRefusal(const HttpResponse&)>;

  AwsClient(AwsClientOptions options, std::shared_ptr<CredentialsProvider> credentials);

  /// Signs a copy of `request` for each try. 2xx and `accepted` statuses are answers; others are
  /// given to `explain`.
  Result<AwsAnswer> perform(const HttpRequest& request, const std::vector<int>& accepted,
                            const Explain& explain, const CancelToken& cancel);

  const AwsClientOptions& options() const { return options_; }
  uint64_t retries() const { return retries_; }

 private:
  struct Attempts;
  Result<HttpResponse> attempt(const HttpRequest& request, const CancelToken& cancel);
  bool correct_clock(const HttpResponse& response);
  Error failure_of(const HttpResponse& response, const Explain& explain, Attempts& attempts);

  const AwsClientOptions options_;
  const std::shared_ptr<CredentialsProvider> credentials_;
  HttpClient http_;
  std::atomic<int64_t> clock_offset_ms_ = 0;  // the service's clock minus ours
  std::atomic<uint64_t> retries_ = 0;
  std::atomic<bool> outage_told_ = false;
};

}  // namespace reclo::net
