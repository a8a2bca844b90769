// Signed S3 requests against one bucket. Trying again is net/aws_client.h's; this words what S3
// refuses. Safe from any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/aws_client.h"
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

class S3Client {
 public:
  S3Client(S3Options options, std::shared_ptr<net::CredentialsProvider> credentials);

  Result<net::AwsAnswer> perform(const S3Call& call, const CancelToken& cancel);
  const S3Options& options() const { return options_; }
  uint64_t retries() const { return client_.retries(); }

 private:
  net::HttpRequest make_request(const S3Call& call) const;

  const S3Options options_;
  net::AwsClient client_;
  std::string base_url_;
};

}  // namespace reclo::store
