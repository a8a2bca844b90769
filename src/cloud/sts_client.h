// Who asks: the Security Token Service, API version 2011-06-15. Safe from any thread.
#pragma once

#include <chrono>
#include <string>

#include "cloud/query_client.h"

namespace reclo::cloud {

struct CallerIdentity {
  std::string account;
  std::string arn;
};

class StsClient {
 public:
  explicit StsClient(const ServiceOptions& options);

  /// Needs no permission: the first thing to ask with new credentials.
  Result<CallerIdentity> caller_identity(const CancelToken& cancel);
  /// Temporary credentials of a role. `session_name` shows in the account's logs.
  Result<net::AwsCredentials> assume_role(const std::string& role_arn,
                                          const std::string& session_name,
                                          std::chrono::seconds duration, const CancelToken& cancel);

 private:
  QueryClient client_;
};

}  // namespace reclo::cloud
