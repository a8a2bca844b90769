// The verbs for what lies around a failover: what it costs, a host for it, the way home.
#pragma once

#include <functional>

#include "cli/commands.h"

namespace CLI {
class App;
}

namespace reclo::cli {

struct HomeArgs {
  EstimateArgs estimate;
  FailbackArgs failback;
  HostArgs host;
};

/// Adds the verbs; `run` becomes the one that was given. Both must outlive `app`.
void add_home_verbs(CLI::App& app, HomeArgs& args, std::function<Status(Context&)>& run);

}  // namespace reclo::cli
