#include "cli/app_home.h"

#include <CLI/CLI.hpp>

#include "cli/app_cloud.h"

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

void add_failback_verbs(CLI::App& app, FailbackArgs& f, Run& run) {
  CLI::App* failback = app.add_subcommand("failback", "Bring a recovered server home");
  failback->require_subcommand(1);
  failback->fallthrough();
  CLI::App* plan = add_verb(*failback, run, "plan", "What would move, and how long that takes",
                            [&f](Context& c) { return run_failback_plan(c, f); });
  CLI::App* seed = add_verb(*failback, run, "seed",
                            "Bring the disks here up to date while the server runs there",
                            [&f](Context& c) { return run_failback_seed(c, f); });
  CLI::App* cutover =
      add_verb(*failback, run, "cutover", "Stop the server there, and bring the rest home",
               [&f](Context& c) { return run_failback_cutover(c, f); });
  CLI::App* status = add_verb(*failback, run, "status", "How far the ways home are",
                              [&f](Context& c) { return run_failback_status(c, f); });
  CLI::App* abandon =
      add_verb(*failback, run, "abandon", "Give it up: remove what was made in the cloud for it",
               [&f](Context& c) { return run_failback_abandon(c, f); });
  for (CLI::App* verb : {plan, seed}) {
    auto* here =
        verb->add_option("--instance", f.instance, "The server, as `reclo instances` names it");
    verb->add_option("--ec2-instance", f.ec2_instance, "A server recovered in EC2: i-…")
        ->excludes(here);
    verb->add_option("--to", f.targets, "A block device or raw file for each disk, in order");
    verb->add_option("--snapshot", f.snapshots,
                     "snap-…=DISK: what the instance's disk was made from; default: as its image "
                     "says");
    verb->add_option("--point", f.point, "The recovery point that it was started from");
    verb->add_flag("--force", f.force, "Overwrite a device in use, or a file of another size");
    verb->add_option("--window", f.window, "How long the server may be away, e.g. 3m");
  }
  plan->add_option("--bandwidth", f.bandwidth, "Bytes a second to count with, e.g. 10M");
  for (CLI::App* verb : {cutover, status, abandon})
    verb->add_option("failback", f.failback, "Id, a unique prefix, or the instance");
  for (CLI::App* verb : {cutover, abandon}) verb->add_flag("--yes", f.yes, "Do not ask");
  for (CLI::App* verb : {plan, seed, cutover, abandon}) add_cloud_options(*verb, f.cloud);
}

void add_host_verbs(CLI::App& app, HostArgs& h, Run& run) {
  CLI::App* host = app.add_subcommand("host", "An instance in EC2 that runs a server under QEMU");
  host->require_subcommand(1);
  host->fallthrough();
  CLI::App* verb = add_verb(*host, run, "user-data", "Print the user data that makes it one",
                            [&h](Context& c) { return run_host_user_data(c, h); });
  verb->add_option("--point", h.point, "Recovery point; latest:SERVER is found by the host itself")
      ->required();
  verb->add_option("--memory", h.memory, "Guest memory")->capture_default_str();
  verb->add_option("--cpus", h.cpus, "Guest CPUs")
      ->check(CLI::Range(1u, 255u))
      ->capture_default_str();
  verb->add_option("--forward", h.forwards, "[ADDR:]HOST:GUEST; may be repeated");
  verb->add_option("--wait-for", h.wait_for, "As recover takes it: the unit is up when it answers");
  verb->add_flag("--hydrate", h.hydrate, "Copy the rest of the disks to the host");
  verb->add_option("--package-url", h.package_url, "https://… of ReClo's package; default: apt");
  verb->add_option("--package-sha256", h.package_sha256, "What it must be");
  auto* parameter = verb->add_option("--passphrase-parameter", h.passphrase_parameter,
                                     "Name of the SSM parameter that holds the passphrase");
  verb->add_option("--passphrase-secret", h.passphrase_secret,
                   "ARN or name of the secret that holds it")
      ->excludes(parameter);
  verb->add_option("--region", h.region, "Of the parameter or secret; default: the instance's");
}

}  // namespace

void add_home_verbs(CLI::App& app, HomeArgs& args, Run& run) {
  add_estimate_verb(app, args.estimate, run);
  add_failback_verbs(app, args.failback, run);
  add_host_verbs(app, args.host, run);
}

}  // namespace reclo::cli
