// Signed S3 requests against one bucket, tried again as long as that makes sense.
//
// What a try may come back with, and what is done about it:
//   transport error, 5xx, SlowDown …     wait with back-off, again, until the patience is spent
//   RequestTimeTooSkewed                 learn the service's clock from its Date, again once
//   ExpiredToken                         fetch new credentials, again once
//   anything else                        an Error with words that a user can act on
// Safe from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "net/aws_credentials.h"
#include "net/http_client.h"
#include "net/retry.h"
#include "net/url.h"
#include "store/object_store.h"

namespace reclo::store {

struct S3Options {
  std::string bucket;
  std::string endpoint;  // "https://s3.eu-central-1.amazonaws.com"
  std::string region;    // "eu-central-1"
  bool path_style = false;
  net::RetryPolicy retry;
  net::HttpClientOptions http;
};

/// Errors: kInvalidArgument for a bucket name or endpoint that cannot be one.
Status check_s3_options(const S3Options& options);

struct S3Call {
  std::string method = "GET";
  std::string key;  // empty: the bucket itself
  net::QueryPairs query;
  std::vector<std::pair<std::string, std::string>> headers;
  ByteSpan body;
  uint64_t response_size_bytes_max = 4 << 20;
  /// Statuses that are an answer rather than a failure, besides 2xx.
  std::vector<int> accepted;
};

struct S3Answer {
  net::HttpResponse response;
  /// An earlier try failed in a way after which the service may have carried it out.
  bool ambiguous = false;
};

class S3Client {
 public:
  S3Client(S3Options options, std::shared_ptr<net::CredentialsProvider> credentials);

  Result<S3Answer> perform(const S3Call& call, const CancelToken& cancel);
  const S3Options& options() const { return options_; }
  uint64_t retries() const { return retries_; }

 private:
  struct Attempts;
  net::HttpRequest make_request(const S3Call& call) const;
  Result<net::HttpResponse> attempt(const S3Call& call, const CancelToken& cancel);
  bool correct_clock(const net::HttpResponse& response);
  Error failure_of(const S3Call& call, const net::HttpResponse& response, Attempts& attempts);

  const S3Options options_;
  const std::shared_ptr<net::CredentialsProvider> credentials_;
  net::HttpClient http_;
  std::string base_url_;
  std::atomic<int64_t> clock_offset_ms_ = 0;  // the service's clock minus ours
  std::atomic<uint64_t> retries_ = 0;
  std::atomic<bool> outage_told_ = false;
};

}  // namespace reclo::store
