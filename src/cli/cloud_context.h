// The cloud as the command line says.
#pragma once

#include "cli/context.h"
#include "cloud/cloud.h"

namespace reclo::cli {

/// Asks nothing of it yet. Errors: kInvalidArgument without a region.
Result<cloud::Cloud> open_cloud(const Context& context, const CloudArgs& args);

}  // namespace reclo::cli
