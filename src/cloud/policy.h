// The IAM policy that ReClo's credentials need for a target, and no more. Any thread.
#pragma once

#include <string>
#include <vector>

namespace reclo::cloud {

/// The actions that keeping a standby asks for, with their services: "ebs:StartSnapshot".
std::vector<std::string> standby_actions();

/// What failing over, drills and stopping ask for beside those.
std::vector<std::string> failover_actions();
/// What bringing a server home asks for beside those.
std::vector<std::string> failback_actions();
/// What `--via import` asks of the bucket.
std::vector<std::string> import_actions();

/// A policy document of IAM, indented, that allows all of them, a statement for each.
std::string ec2_policy();

}  // namespace reclo::cloud
