#include "cloud/cloud.h"

#include "net/url.h"

namespace reclo::cloud {
namespace {

constexpr auto kRoleDuration = std::chrono::hours(1);

// Renewed by the provider before it expires.
std::shared_ptr<net::CredentialsProvider> role_credentials(const ServiceOptions& sts,
                                                           const std::string& role_arn) {
  return std::make_shared<net::CredentialsProvider>(
      [client = std::make_shared<StsClient>(sts), role_arn](const CancelToken& cancel) {
        return client->assume_role(role_arn, "reclo", kRoleDuration, cancel);
      });
}

}  // namespace

Result<Cloud> open_cloud(const CloudOptions& options) {
  Cloud out;
  out.region = options.region;
  if (out.region.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.region, net::configured_aws_region(net::process_environment()));
  }
  if (out.region.empty())
    return Error(Code::kInvalidArgument,
                 "which region? Give --region or set AWS_REGION (eu-central-1, us-east-1, …)");
  for (const std::string* endpoint : {&options.ec2_endpoint, &options.ebs_endpoint,
                                      &options.sts_endpoint, &options.quotas_endpoint})
    if (!endpoint->empty()) RECLO_TRY_WITH(net::parse_url(*endpoint), "endpoint " + *endpoint);
  out.meter = std::make_shared<RequestMeter>();
  ServiceOptions common;
  common.region = out.region;
  common.retry = options.retry;
  common.meter = out.meter;
  common.credentials = std::make_shared<net::CredentialsProvider>();
  ServiceOptions sts = common;
  sts.endpoint = options.sts_endpoint;
  if (!options.role_arn.empty()) common.credentials = role_credentials(sts, options.role_arn);
  out.sts = std::make_unique<StsClient>(sts);
  ServiceOptions ec2 = common;
  ec2.endpoint = options.ec2_endpoint;
  out.ec2 = std::make_unique<Ec2Client>(ec2);
  ServiceOptions ebs = common;
  ebs.endpoint = options.ebs_endpoint;
  out.ebs = std::make_unique<EbsClient>(ebs);
  ServiceOptions quotas = common;
  quotas.endpoint = options.quotas_endpoint;
  out.quotas = std::make_unique<QuotasClient>(quotas);
  return out;
}

}  // namespace reclo::cloud
