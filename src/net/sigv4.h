// AWS Signature Version 4, in the Authorization header.
// Source: AWS "Create a signed AWS API request". curl's own signer (7.88) gets S3 listings and EBS
// uploads wrong, so this is done by hand.
#pragma once

#include <optional>
#include <string>

#include "base/time.h"
#include "net/http_client.h"

namespace reclo::net {

/// Secret: never log or print it.
struct AwsCredentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;        // empty for long-lived keys
  std::optional<WallTime> expires;  // when the service stops taking them, if it said so
};

struct SigningScope {
  std::string region;   // "eu-central-1"
  std::string service;  // "s3", "ebs", "ec2", "sts"
  WallTime time;        // the service's clock as well as we know it: 15 minutes off is refused
};

/// Adds x-amz-date, x-amz-content-sha256, x-amz-security-token and Authorization to the request.
/// Call it last, and again (on the unsigned request) for each attempt. The URL's path and query
/// must be encoded as net/url.h does. An x-amz-content-sha256 that is already there is kept, so
/// that a caller need not hash a body twice. Errors: kInvalidArgument for the URL. Cost: one
/// SHA-256 of the body.
Status sign_aws_v4(HttpRequest& request, const AwsCredentials& credentials,
                   const SigningScope& scope);

}  // namespace reclo::net
