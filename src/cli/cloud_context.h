// Opening the cloud as a verb's options, or an instance's record, say.
#pragma once

#include "cli/context.h"
#include "cloud/cloud.h"
#include "recovery/ec2/failover_record.h"

namespace reclo::cli {

Result<cloud::Cloud> open_cloud(const Context& context, const CloudArgs& args);
/// `patience`: how long requests are tried again.
Result<cloud::Cloud> open_cloud(const recovery::CloudAddress& address,
                                std::chrono::milliseconds patience);
/// With the region that holds when none was given.
recovery::CloudAddress address_of(const CloudArgs& args, const cloud::Cloud& cloud);

/// "a,b" and "c" are a, b and c.
std::vector<std::string> split_commas(const std::vector<std::string>& texts);

}  // namespace reclo::cli
