#include "cloud/policy.h"

#include "base/json.h"

namespace reclo::cloud {

std::vector<std::string> standby_actions() {
  return {"ebs:StartSnapshot",      "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot",
          "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "ec2:DescribeSnapshots",
          "ec2:DeleteSnapshot",     "ec2:CreateTags",       "ec2:RegisterImage",
          "ec2:DescribeImages",     "ec2:DeregisterImage"};
}

std::string standby_policy() {
  const Json policy = {{"Version", "2012-10-17"},
                       {"Statement", Json::array({{{"Sid", "ReCloStandby"},
                                                   {"Effect", "Allow"},
                                                   {"Action", standby_actions()},
                                                   {"Resource", "*"}}})}};
  return dump_json(policy, 2) + "\n";
}

}  // namespace reclo::cloud
