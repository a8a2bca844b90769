#include "cli/cloud_context.h"

namespace reclo::cli {

Result<cloud::Cloud> open_cloud(const Context& context, const CloudArgs& args) {
  cloud::CloudOptions options;
  options.region = args.region;
  options.ec2_endpoint = args.ec2_endpoint;
  options.ebs_endpoint = args.ebs_endpoint;
  options.sts_endpoint = args.sts_endpoint;
  options.role_arn = args.role_arn;
  options.retry.patience = std::chrono::seconds(context.options.retry_for_seconds);
  return cloud::open_cloud(options);
}

}  // namespace reclo::cli
