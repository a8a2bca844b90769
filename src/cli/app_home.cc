#include "cli/app_home.h"

#include <CLI/CLI.hpp>

namespace reclo::cli {
namespace {

using Run = std::function<Status(Context&)>;

CLI::App* add_verb(CLI::App& parent, Run& chosen, const std::string& name, const std::string& text,
                   Run run) {
  CLI::App* verb = parent.add_subcommand(name, text);
  verb->fallthrough();
  verb->callback([&chosen, run = std::move(run)] { chosen = run; });
  return verb;
}

void add_estimate_verb(CLI::App& app, EstimateArgs& e, Run& run) {
  CLI::App* estimate =
      add_verb(app, run, "estimate", "What a server in EC2 would cost, and how long it would take",
               [&e](Context& c) { return run_estimate(c, e); });
  auto* point = estimate->add_option("point", e.point, "Recovery point");
  estimate->add_option("--server", e.server, "The newest one of this server")->excludes(point);
  estimate->add_option("--region", e.region, "Default: AWS_REGION, the profile's, us-east-1");
  estimate->add_option("--prices", e.prices_file, "A price list of your own (JSON)");
  estimate->add_option("--instance-type", e.instance_type, "What a failover would start")
      ->capture_default_str();
  estimate
      ->add_option("--refreshes-per-day", e.refreshes_per_day,
                   "How often the standby is refreshed; default: as often as there were points")
      ->check(CLI::Range(0.0, 1440.0));
}

}  // namespace

void add_home_verbs(CLI::App& app, HomeArgs& args, Run& run) {
  add_estimate_verb(app, args.estimate, run);
}

}  // namespace reclo::cli
