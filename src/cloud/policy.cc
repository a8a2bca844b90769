#include "cloud/policy.h"

#include "base/json.h"

namespace reclo::cloud {
namespace {

Json statement(const char* name, const std::vector<std::string>& actions, const char* resource) {
  return {{"Sid", name}, {"Effect", "Allow"}, {"Action", actions}, {"Resource", resource}};
}

}  // namespace

std::vector<std::string> standby_actions() {
  return {"ebs:StartSnapshot",      "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot",
          "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "ec2:DescribeSnapshots",
          "ec2:DeleteSnapshot",     "ec2:CreateTags",       "ec2:RegisterImage",
          "ec2:DescribeImages",     "ec2:DeregisterImage",  "ec2:DescribeInstances"};
}

std::vector<std::string> failover_actions() {
  return {"ec2:RunInstances",
          "ec2:DescribeInstanceTypes",
          "ec2:StartInstances",
          "ec2:StopInstances",
          "ec2:TerminateInstances",
          "ec2:DescribeSubnets",
          "ec2:DescribeSecurityGroups",
          "ec2:CreateSecurityGroup",
          "ec2:DeleteSecurityGroup",
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:RevokeSecurityGroupEgress",
          "ec2:ImportSnapshot",
          "ec2:DescribeImportSnapshotTasks",
          "ec2:CancelImportTask",
          "servicequotas:GetServiceQuota"};
}

std::vector<std::string> failback_actions() {
  return {"ec2:CreateSnapshot", "ebs:ListChangedBlocks"};
}

std::vector<std::string> import_actions() {
  return {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"};
}

std::string ec2_policy() {
  const Json policy = {
      {"Version", "2012-10-17"},
      {"Statement",
       Json::array({statement("ReCloStandby", standby_actions(), "*"),
                    statement("ReCloFailover", failover_actions(), "*"),
                    statement("ReCloFailback", failback_actions(), "*"),
                    statement("ReCloImport", import_actions(), "arn:aws:s3:::*/reclo-import/*")})}};
  return dump_json(policy, 2) + "\n";
}

}  // namespace reclo::cloud
