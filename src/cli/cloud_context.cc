#include "cli/cloud_context.h"

#include <algorithm>

namespace reclo::cli {

Result<cloud::Cloud> open_cloud(const recovery::CloudAddress& address,
                                std::chrono::milliseconds patience) {
  cloud::CloudOptions options;
  options.region = address.region;
  options.ec2_endpoint = address.ec2_endpoint;
  options.ebs_endpoint = address.ebs_endpoint;
  options.sts_endpoint = address.sts_endpoint;
  options.quotas_endpoint = address.quotas_endpoint;
  options.role_arn = address.role_arn;
  options.retry.patience = patience;
  return cloud::open_cloud(options);
}

Result<cloud::Cloud> open_cloud(const Context& context, const CloudArgs& args) {
  return open_cloud({args.region, args.ec2_endpoint, args.ebs_endpoint, args.sts_endpoint,
                     args.quotas_endpoint, args.role_arn},
                    std::chrono::seconds(context.options.retry_for_seconds));
}

recovery::CloudAddress address_of(const CloudArgs& args, const cloud::Cloud& cloud) {
  return {cloud.region,      args.ec2_endpoint,    args.ebs_endpoint,
          args.sts_endpoint, args.quotas_endpoint, args.role_arn};
}

std::vector<std::string> split_commas(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const std::string& text : texts)
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find(',', at), text.size());
      if (end > at) out.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  return out;
}

}  // namespace reclo::cli
