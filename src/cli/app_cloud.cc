#include "cli/app_cloud.h"

#include <CLI/CLI.hpp>

namespace reclo::cli {
namespace {

constexpr const char* kCloudGroup = "Cloud";

}  // namespace

void add_cloud_options(CLI::App& verb, CloudArgs& cloud) {
  const std::string group = kCloudGroup;
  verb.add_option("--region", cloud.region, "Default: AWS_REGION, then the profile's")
      ->group(group);
  verb.add_option("--role", cloud.role_arn, "ARN of a role to assume")->group(group);
  verb.add_option("--ec2-endpoint", cloud.ec2_endpoint, "Another EC2 than the region's")
      ->envname("RECLO_EC2_ENDPOINT")
      ->group(group);
  verb.add_option("--ebs-endpoint", cloud.ebs_endpoint, "Another EBS direct API")
      ->envname("RECLO_EBS_ENDPOINT")
      ->group(group);
  verb.add_option("--sts-endpoint", cloud.sts_endpoint, "Another STS")
      ->envname("RECLO_STS_ENDPOINT")
      ->group(group);
}

void add_quotas_option(CLI::App& verb, CloudArgs& cloud) {
  verb.add_option("--quotas-endpoint", cloud.quotas_endpoint, "Another Service Quotas")
      ->envname("RECLO_QUOTAS_ENDPOINT")
      ->group(kCloudGroup);
}

void add_ec2_options(CLI::App& verb, Ec2Args& ec2) {
  const std::string group = "On ec2";
  verb.add_option("--instance-type", ec2.instance_types,
                  "Types to try, in this order (default: m7i.large,m6i.large,t3.large)")
      ->allow_extra_args(false)
      ->group(group);
  verb.add_option("--subnet", ec2.subnet, "Default: the default VPC's, zone after zone")
      ->group(group);
  verb.add_option("--security-group", ec2.security_groups, "Default: one is made; may be repeated")
      ->allow_extra_args(false)
      ->group(group);
  verb.add_option("--operator-cidr", ec2.operator_cidr,
                  "Whom the group that is made lets in, e.g. 203.0.113.7/32")
      ->group(group);
  verb.add_option("--key-name", ec2.key_name, "EC2 key pair")->group(group);
  verb.add_option("--private-ip", ec2.private_ip, "Private address in the subnet")->group(group);
  verb.add_flag("--drill", ec2.drill, "A drill: nothing gets out, and it ends after --ttl")
      ->group(group);
  verb.add_option("--ttl", ec2.ttl, "How long it may run, e.g. 90m (a drill: 2h)")->group(group);
  verb.add_option("--via", ec2.via, "auto, standby, cold or import")
      ->check(CLI::IsMember({"auto", "standby", "cold", "import"}))
      ->group(group);
  verb.add_option("--import-bucket", ec2.import_bucket, "Bucket that an import goes through")
      ->group(group);
  verb.add_flag("--no-prepare", ec2.no_prepare, "Put the server's files as they are")->group(group);
  add_cloud_options(verb, ec2.cloud);
  add_quotas_option(verb, ec2.cloud);
}

}  // namespace reclo::cli
