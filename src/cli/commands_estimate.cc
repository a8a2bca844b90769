// estimate: what a server in EC2 would cost, and how long it would take, from its maps alone.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cloud/ebs_client.h"
#include "net/aws_config.h"
#include "os/file.h"
#include "recovery/ec2/estimate.h"

namespace reclo::cli {
namespace {

using recovery::Estimate;
using recovery::PriceList;

constexpr size_t kIntervalsMax = 5;
constexpr double kDaysPerMonth = 730.0 / 24;

Result<PriceList> load_prices(const std::string& path) {
  if (path.empty()) return recovery::decode_prices(recovery::built_in_prices());
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(path, recovery::kPricesSizeBytesMax));
  auto list = recovery::decode_prices(as_text(text));
  if (!list.ok()) return std::move(list).error().with(path);
  return list;
}

struct Measured {
  repo::FoundPoint found;
  recovery::PointExtent extent;
  recovery::ChangeRate change;
};

Result<Measured> measure(const Context& context, const EstimateArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  Measured out;
  const std::string wanted = args.point.empty() ? "latest:" + args.server : args.point;
  RECLO_ASSIGN_OR_RETURN(out.found, repo::find_point(*open.repository, wanted, context.cancel));
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         map_key_for(context, *open.repository, out.found.machine));
  repo::SlotReader slots(*open.store, open.repository->id(), out.found.machine.id,
                         std::move(map_key), std::nullopt);
  repo::MapReader maps(slots);
  RECLO_ASSIGN_OR_RETURN(out.extent,
                         recovery::measure_extent(maps, out.found.point.record, context.cancel));
  RECLO_ASSIGN_OR_RETURN(repo::MachinePoints points,
                         open.repository->points(out.found.machine, context.cancel));
  while (!points.points.empty() && points.points.back().record.id != out.found.point.record.id)
    points.points.pop_back();
  RECLO_ASSIGN_OR_RETURN(
      out.change, recovery::measure_change(maps, points.points, kIntervalsMax, context.cancel));
  return out;
}

Json estimate_json(const Measured& measured, const recovery::EstimateRequest& request,
                   const PriceList& list, const std::string& region, const Estimate& e) {
  return {{"server", measured.found.machine.name},
          {"point", measured.found.point.record.id.hex()},
          {"region", region},
          {"instance_type", request.instance_type},
          {"prices", {{"as_of", list.as_of}, {"source", list.source}, {"currency", list.currency}}},
          {"size_bytes", measured.extent.size_bytes},
          {"volume_gib", measured.extent.volume_gib},
          {"data_blocks", measured.extent.data_blocks},
          {"changed_blocks", request.changed_blocks},
          {"measured_intervals", measured.change.intervals},
          {"refreshes_per_month", request.refreshes_per_month},
          {"standby",
           {{"storage_month", e.storage_month},
            {"requests_month", e.requests_month},
            {"month", e.standby_month},
            {"first_put", e.first_put},
            {"refresh_seconds", e.refresh_seconds}}},
          {"failover",
           {{"instance_hour", e.instance_hour},
            {"volumes_hour", e.volumes_hour},
            {"public_ip_hour", e.public_ip_hour},
            {"hour", e.failover_hour},
            {"volume_initialization", e.volume_initialization}}},
          {"cold_seconds", e.cold_seconds},
          {"import_seconds", e.import_seconds}};
}

std::string seconds(double value) {
  return format_duration(std::chrono::milliseconds(static_cast<int64_t>(value * 1000)));
}

std::string estimate_text(const Measured& measured, const recovery::EstimateRequest& request,
                          const PriceList& list, const std::string& region, const Estimate& e) {
  const std::string& unit = list.currency;
  std::string out = fmt::format(
      "{} at recovery point {}: {} of disks, {} blocks of 512 KiB with data ({:.1f} GiB)\n",
      measured.found.machine.name, measured.found.point.record.id.short_hex(),
      format_bytes(measured.extent.size_bytes), measured.extent.data_blocks, e.snapshot_gib);
  out += measured.change.intervals == 0
             ? "Only one recovery point: how much changes is not known yet, counted as nothing\n"
             : fmt::format("{:.0f} blocks change from point to point (mean of {})\n",
                           request.changed_blocks, measured.change.intervals);
  out += fmt::format(
      "\nStandby in {}, {:.0f} refreshes a month\n"
      "  snapshot storage   {:>9.2f} {} a month\n"
      "  requests           {:>9.2f} {} a month\n"
      "  together           {:>9.2f} {} a month, and {:.2f} {} once to put everything\n"
      "  a refresh puts {:.0f} blocks: {} at the quota of 1,000 a second\n",
      region, request.refreshes_per_month, e.storage_month, unit, e.requests_month, unit,
      e.standby_month, unit, e.first_put, unit, request.changed_blocks, seconds(e.refresh_seconds));
  out += fmt::format(
      "\nFailover to {}\n"
      "  instance           {:>9.4f} {} an hour\n"
      "  volumes (gp3)      {:>9.4f} {} an hour\n"
      "  public IPv4        {:>9.4f} {} an hour\n"
      "  together           {:>9.4f} {} an hour, and {:.2f} {} once for initialising volumes\n",
      request.instance_type, e.instance_hour, unit, e.volumes_hour, unit, e.public_ip_hour, unit,
      e.failover_hour, unit, e.volume_initialization, unit);
  out += fmt::format(
      "\nTime before the instance can start\n"
      "  warm   none: the standby is there\n"
      "  cold   {} for {} blocks at the quota, or what the uplink takes\n"
      "  import {} as VM Import's users report it, after the upload\n"
      "\nPrices of {} ({}). Traffic and taxes are not in it.\n",
      seconds(e.cold_seconds), measured.extent.data_blocks, seconds(e.import_seconds), list.as_of,
      list.source);
  return out;
}

}  // namespace

Status run_estimate(Context& context, const EstimateArgs& args) {
  if (args.point.empty() == args.server.empty())
    return Error(Code::kInvalidArgument, "give a recovery point or --server NAME");
  RECLO_ASSIGN_OR_RETURN(const PriceList list, load_prices(args.prices_file));
  std::string region = args.region;
  if (region.empty()) {
    RECLO_ASSIGN_OR_RETURN(region, net::configured_aws_region(net::process_environment()));
  }
  if (region.empty()) region = "us-east-1";
  RECLO_ASSIGN_OR_RETURN(const recovery::RegionPrices* prices, list.region(region));
  RECLO_ASSIGN_OR_RETURN(const Measured measured, measure(context, args));
  recovery::EstimateRequest request;
  request.extent = measured.extent;
  request.changed_blocks = measured.change.blocks;
  request.instance_type = args.instance_type;
  request.refreshes_per_month = kDaysPerMonth;
  if (measured.change.points_per_month > 0)
    request.refreshes_per_month = measured.change.points_per_month;
  if (args.refreshes_per_day > 0)
    request.refreshes_per_month = args.refreshes_per_day * kDaysPerMonth;
  RECLO_ASSIGN_OR_RETURN(const Estimate estimate, recovery::make_estimate(request, list, *prices));
  context.progress.reset();
  if (list.is_stale(wall_now()))
    log_warning("the prices are of {}: look for newer ones and give them by --prices", list.as_of);
  if (context.options.json)
    return print_json(estimate_json(measured, request, list, region, estimate));
  return print(estimate_text(measured, request, list, region, estimate));
}

}  // namespace reclo::cli
