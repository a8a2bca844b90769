// One service of the cloud as the clients here see it: where it is, who asks, what is counted, and
// how a refusal is worded. Safe from any thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "cloud/request_meter.h"
#include "net/aws_client.h"

namespace reclo::cloud {

/// What things of the cloud are marked with, by key.
using Tags = std::map<std::string, std::string>;

struct ServiceOptions {
  std::string region;    // "eu-central-1"
  std::string endpoint;  // empty: the service's own in that region
  net::RetryPolicy retry;
  net::HttpClientOptions http;
  std::shared_ptr<net::CredentialsProvider> credentials;
  std::shared_ptr<RequestMeter> meter;  // may be null
};

/// "https://ec2.eu-central-1.amazonaws.com", and amazonaws.com.cn in China's regions.
std::string default_endpoint(std::string_view service, std::string_view region);

/// The words for a refusal of `action` ("ec2:RunInstances"), by what the service said. Codes:
/// kPermissionDenied names the action and the policy statement that is missing; kNotFound,
/// kAlreadyExists, kConflict (a wrong state), kResourceExhausted (a quota, or no capacity: another
/// type or zone may do), kUnavailable (an outage), kUnauthenticated, kInvalidArgument.
net::AwsRefusal word_refusal(const net::AwsClientOptions& client, std::string_view action,
                             int status, std::string code, std::string message);

class Service {
 public:
  /// `name`: "ec2"; `rate`: of all its requests together, may be null.
  Service(std::string name, const ServiceOptions& options,
          std::shared_ptr<net::AdaptiveRate> rate = nullptr);

  /// `request.url` is the path and query only. `action` is counted and named in errors.
  Result<net::HttpResponse> send(net::HttpRequest request, std::string_view action,
                                 const net::AwsClient::Explain& explain, const CancelToken& cancel);
  const net::AwsClientOptions& options() const { return client_.options(); }

 private:
  net::AwsClient client_;
  const std::shared_ptr<RequestMeter> meter_;
};

}  // namespace reclo::cloud
