// The options by which verbs are told where in the cloud they work, and how a server is started
// there.
#pragma once

#include "cli/options.h"

namespace CLI {
class App;
}

namespace reclo::cli {

/// Region, role, and other endpoints than the region's.
void add_cloud_options(CLI::App& verb, CloudArgs& cloud);
/// The endpoint that only looking at quotas needs.
void add_quotas_option(CLI::App& verb, CloudArgs& cloud);
/// What `recover --on ec2` takes; all of the above too.
void add_ec2_options(CLI::App& verb, Ec2Args& ec2);

}  // namespace reclo::cli
