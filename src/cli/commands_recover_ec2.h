// recover, instances, stop and resume for servers in EC2: what commands_recover.cc leaves to here.
#pragma once

#include "cli/context.h"
#include "recovery/ec2/failover.h"

namespace reclo::cli {

Status recover_on_ec2(Context& context, const RecoverArgs& args);
/// The record of a user's word; nothing when it means none in EC2.
Result<std::optional<recovery::Ec2Instance>> find_ec2_instance(const Context& context,
                                                               const std::string& reference);
Status stop_ec2(Context& context, const StopArgs& args, const recovery::Ec2Instance& record);
Status resume_ec2(Context& context, const recovery::Ec2Instance& record);
/// Records with what EC2 says, as far as it answers within seconds.
Result<std::vector<recovery::SeenInstance>> see_ec2_instances(const Context& context);
/// Stops drills that are past their time, and removes all that was made for them. Returns their
/// ids.
Result<std::vector<std::string>> reap_ec2(Context& context);

}  // namespace reclo::cli
