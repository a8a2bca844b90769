// The IAM policy that ReClo's credentials need for a target, and no more. Any thread.
#pragma once

#include <string>
#include <vector>

namespace reclo::cloud {

/// The actions that keeping a standby asks for, with their services: "ebs:StartSnapshot".
std::vector<std::string> standby_actions();

/// A policy document of IAM, indented, that allows them.
std::string standby_policy();

}  // namespace reclo::cloud
