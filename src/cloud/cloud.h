// One account's services in one region, as the options say. Safe from any thread.
#pragma once

#include <memory>
#include <string>

#include "cloud/ebs_client.h"
#include "cloud/ec2_client.h"
#include "cloud/quotas_client.h"
#include "cloud/sts_client.h"

namespace reclo::cloud {

struct CloudOptions {
  std::string region;        // empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's
  std::string ec2_endpoint;  // empty: the region's own
  std::string ebs_endpoint;
  std::string sts_endpoint;
  std::string quotas_endpoint;
  std::string role_arn;  // assumed when set, with the usual credentials
  net::RetryPolicy retry;
};

struct Cloud {
  std::string region;
  std::shared_ptr<RequestMeter> meter;
  std::unique_ptr<Ec2Client> ec2;
  std::unique_ptr<EbsClient> ebs;
  std::unique_ptr<StsClient> sts;
  std::unique_ptr<QuotasClient> quotas;
};

/// Asks nothing of the cloud yet. Errors: kInvalidArgument without a region or with an endpoint
/// that is no URL.
Result<Cloud> open_cloud(const CloudOptions& options);

}  // namespace reclo::cloud
