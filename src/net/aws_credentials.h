// Where AWS credentials come from, in the order of AWS's own tools:
//   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//   2. the profile in the shared credentials and config files
//   3. a container's: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI
//   4. the instance's role, by IMDSv2 (AWS_EC2_METADATA_SERVICE_ENDPOINT,
//   AWS_EC2_METADATA_DISABLED)
// A profile that needs role_arn, SSO, credential_process or web identity is refused by name rather
// than skipped: the next source might be somebody else's account.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "net/aws_config.h"
#include "net/sigv4.h"

namespace reclo::net {

/// Hands out credentials, fetched at the first call and again five minutes before they expire.
/// Safe from any thread; one fetches while the others wait.
class CredentialsProvider {
 public:
  explicit CredentialsProvider(Environment environment = process_environment());
  /// Fixed ones: for tests, and for credentials that the Console handed out.
  explicit CredentialsProvider(AwsCredentials credentials);
  /// From anywhere: a role that was assumed. Its credentials must say when they expire.
  using Fetch = std::function<Result<AwsCredentials>(const CancelToken& cancel)>;
  explicit CredentialsProvider(Fetch fetch);

  /// Errors: kUnauthenticated when no source has any (the message lists what was looked at),
  /// kUnsupported, kUnavailable when the metadata service fails.
  Result<AwsCredentials> get(const CancelToken& cancel);
  /// The service refused them as expired: fetch again at the next get(). False when that cannot
  /// help, because they are fixed.
  bool forget();

 private:
  Result<AwsCredentials> load(const CancelToken& cancel) const;
  const Environment environment_;
  const Fetch fetch_;
  const bool fixed_;
  std::mutex mutex_;
  std::optional<AwsCredentials> cached_;
};

}  // namespace reclo::net
