// standby refresh, status, drop, and policy print: a server's newest point in EC2, ready to be
// started, and what that must be allowed to do.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "cli/cloud_context.h"
#include "cli/commands.h"
#include "cli/prepare_point.h"
#include "cli/terminal.h"
#include "cloud/policy.h"
#include "recovery/ec2/failover_check.h"
#include "recovery/ec2/point_source.h"
#include "recovery/ec2/standby.h"

namespace reclo::cli {
namespace {

using recovery::Standby;
using recovery::StandbyRecord;

Result<repo::MachineRecord> find_machine(const Context& context, const repo::Repository& repository,
                                         const std::string& server) {
  RECLO_ASSIGN_OR_RETURN(const auto machines, repository.machines(nullptr, context.cancel));
  for (const repo::MachineRecord& machine : machines)
    if (machine.name == server) return machine;
  return Error(Code::kNotFound, fmt::format("no server '{}' is in this repository", server));
}

recovery::StandbyOptions standby_options(const Context& context, const repo::Repository& repository,
                                         const repo::MachineRecord& machine) {
  recovery::StandbyOptions options;
  options.state_directory = context.options.state_directory;
  options.repository = repository.id().hex();
  options.server = machine.name;
  options.machine = machine.id;
  return options;
}

Json standby_json(const Standby& standby) {
  Json disks = Json::array();
  for (const recovery::StandbyDisk& disk : standby.disks)
    disks.push_back({{"index", disk.index},
                     {"size_bytes", disk.size_bytes},
                     {"snapshot", disk.snapshot.text()},
                     {"completed", disk.completed},
                     {"blocks_put", disk.blocks_put}});
  return {{"point", standby.point.hex()},
          {"point_time", format_time(standby.point_time)},
          {"image", standby.image.text()},
          {"overlay", standby.overlay},
          {"boot_mode", standby.boot_mode == cloud::BootMode::kUefi ? "uefi" : "bios"},
          {"refreshed_at", format_time(standby.refreshed_at)},
          {"duration_ms", standby.duration_ms},
          {"disks", std::move(disks)}};
}

Json check_json(const recovery::FailoverCheck& check) {
  return {{"image_available", check.image_available}, {"instance_type", check.instance_type},
          {"needed_vcpus", check.needed_vcpus},       {"used_vcpus", check.used_vcpus},
          {"quota_vcpus", check.quota_vcpus},         {"warnings", check.warnings}};
}

// What --check asks of the cloud; nothing without it.
Result<std::optional<recovery::FailoverCheck>> check_wanted(Context& context,
                                                            const StandbyArgs& args,
                                                            const StandbyRecord& record) {
  if (!args.check) return std::optional<recovery::FailoverCheck>();
  CloudArgs where = args.cloud;
  if (where.region.empty()) where.region = record.region;
  RECLO_ASSIGN_OR_RETURN(const cloud::Cloud cloud, open_cloud(context, where));
  RECLO_ASSIGN_OR_RETURN(
      recovery::FailoverCheck check,
      recovery::check_failover(cloud, record, split_commas(args.instance_types), context.cancel));
  context.progress.reset();
  for (const std::string& warning : check.warnings) log_warning("{}", warning);
  return std::optional(std::move(check));
}

Json optional_json(const std::optional<Standby>& standby) {
  return standby ? standby_json(*standby) : Json(nullptr);
}

Status print_report(Context& context, const recovery::StandbyReport& report,
                    const cloud::RequestMeter& meter) {
  context.progress.reset();
  for (const std::string& warning : report.warnings) log_warning("{}", warning);
  const Standby& standby = report.standby;
  if (context.options.json) {
    Json json = standby_json(standby);
    json["unchanged"] = report.unchanged;
    json["full"] = report.full;
    json["blocks_put"] = report.blocks_put;
    json["blocks_resumed"] = report.blocks_resumed;
    json["blocks_read_back"] = report.blocks_read_back;
    json["warnings"] = report.warnings;
    json["requests"] = meter.requests();
    return print_json(json);
  }
  if (report.unchanged)
    return print(fmt::format("The standby holds recovery point {} already: {}\n",
                             standby.point.short_hex(), standby.image.text()));
  return print(fmt::format(
      "Standby {} holds recovery point {}: {} blocks ({}) put{}, {} read back, {}\n",
      standby.image.text(), standby.point.short_hex(), report.blocks_put,
      format_bytes(report.blocks_put * cloud::kEbsBlockSizeBytes), report.full ? " as a whole" : "",
      report.blocks_read_back, format_duration(std::chrono::milliseconds(standby.duration_ms))));
}

}  // namespace

Status run_standby_refresh(Context& context, const StandbyArgs& args) {
  const std::string wanted = args.point.empty() ? "latest:" + args.server : args.point;
  RECLO_ASSIGN_OR_RETURN(ReadablePoint readable, open_point(context, wanted));
  const repo::Repository& repository = *readable.open.repository;
  if (readable.found.machine.name != args.server)
    return Error(Code::kInvalidArgument, fmt::format("recovery point {} is of '{}', not of '{}'",
                                                     readable.found.point.record.id.short_hex(),
                                                     readable.found.machine.name, args.server));
  RECLO_ASSIGN_OR_RETURN(const cloud::Cloud cloud, open_cloud(context, args.cloud));
  recovery::StandbyOptions options = standby_options(context, repository, readable.found.machine);
  options.full = args.full;
  options.keep_old = args.keep;
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         repository.map_key(readable.found.machine, readable.box));
  const crypto::SecretKey box = readable.box.secret_key.clone();
  recovery::PointSource point(repository, readable.found.machine, readable.found.point,
                              std::move(map_key), std::move(readable.box));
  std::unique_ptr<recovery::PreparedSource> prepared;
  if (!args.no_prepare) {
    RECLO_ASSIGN_OR_RETURN(
        prepared, prepare_for_ec2(context, repository.id(), readable.found.machine, point, box,
                                  *context.progress, context.cancel));
  }
  recovery::StandbySource& source =
      prepared ? static_cast<recovery::StandbySource&>(*prepared) : point;
  RECLO_ASSIGN_OR_RETURN(auto keeper,
                         recovery::StandbyKeeper::open(*cloud.ebs, *cloud.ec2, options));
  RECLO_ASSIGN_OR_RETURN(const recovery::StandbyReport report,
                         keeper.refresh(source, *context.progress, context.cancel));
  return print_report(context, report, *cloud.meter);
}

Status run_standby_status(Context& context, const StandbyArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const repo::MachineRecord machine,
                         find_machine(context, *open.repository, args.server));
  RECLO_ASSIGN_OR_RETURN(const std::optional<StandbyRecord> record,
                         recovery::load_standby(context.options.state_directory,
                                                open.repository->id().hex(), machine.id));
  if (!record)
    return Error(
        Code::kNotFound,
        fmt::format("'{0}' has no standby that this machine knows of: make one with `reclo "
                    "standby refresh --server {0}`",
                    args.server));
  RECLO_ASSIGN_OR_RETURN(const auto check, check_wanted(context, args, *record));
  if (context.options.json) {
    Json json = {{"server", record->server},
                 {"region", record->region},
                 {"current", optional_json(record->current)},
                 {"pending", optional_json(record->pending)},
                 {"old", record->old.size()}};
    if (check) json["check"] = check_json(*check);
    return print_json(json);
  }
  std::string out = fmt::format("server    {}\nregion    {}\n", record->server, record->region);
  if (record->current)
    out += fmt::format("standby   {} of recovery point {} ({}), made {} in {}\n",
                       record->current->image.text(), record->current->point.short_hex(),
                       format_time(record->current->point_time),
                       format_time(record->current->refreshed_at),
                       format_duration(std::chrono::milliseconds(record->current->duration_ms)));
  if (check)
    out += fmt::format("vCPUs     {} used and {} needed ({}) of a quota of {}\n", check->used_vcpus,
                       check->needed_vcpus, check->instance_type, check->quota_vcpus);
  if (record->pending)
    out += fmt::format("pending   a refresh to {} was interrupted: the next one goes on\n",
                       record->pending->point.short_hex());
  return print(out);
}

Status run_policy_print(Context& context) {
  context.progress.reset();
  return print(cloud::ec2_policy());
}

Status run_standby_drop(Context& context, const StandbyArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const repo::MachineRecord machine,
                         find_machine(context, *open.repository, args.server));
  RECLO_ASSIGN_OR_RETURN(const cloud::Cloud cloud, open_cloud(context, args.cloud));
  RECLO_ASSIGN_OR_RETURN(auto keeper, recovery::StandbyKeeper::open(
                                          *cloud.ebs, *cloud.ec2,
                                          standby_options(context, *open.repository, machine)));
  RECLO_TRY(keeper.drop(context.cancel));
  context.progress.reset();
  if (context.options.json) return print_json({{"dropped", args.server}});
  return print(fmt::format("The standby of '{}' is gone\n", args.server));
}

}  // namespace reclo::cli
