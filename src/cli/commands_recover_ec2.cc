#include "cli/commands_recover_ec2.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "cli/cloud_context.h"
#include "cli/commands.h"
#include "cli/prepare_point.h"
#include "image/export_format.h"
#include "recovery/ec2/point_source.h"
#include "recovery/instance_store.h"
#include "recovery/repository_exporter.h"

namespace reclo::cli {
namespace {

using recovery::Ec2Instance;
using recovery::Ec2InstanceStore;

constexpr auto kLookPatience = std::chrono::seconds(5);
constexpr auto kDrillTtl = std::chrono::hours(2);

Result<recovery::FailoverRequest> request_of(const RecoverArgs& args) {
  recovery::FailoverRequest request;
  const Ec2Args& ec2 = args.ec2;
  request.instance_types = split_commas(ec2.instance_types);
  if (!ec2.subnet.empty()) {
    RECLO_ASSIGN_OR_RETURN(request.subnet, cloud::SubnetId::parse(ec2.subnet));
  }
  for (const std::string& text : split_commas(ec2.security_groups)) {
    RECLO_ASSIGN_OR_RETURN(cloud::SecurityGroupId group, cloud::SecurityGroupId::parse(text));
    request.security_groups.push_back(std::move(group));
  }
  request.key_name = ec2.key_name;
  request.private_ip = ec2.private_ip;
  request.drill = ec2.drill;
  if (!ec2.ttl.empty()) {
    RECLO_ASSIGN_OR_RETURN(const auto ttl, parse_duration(ec2.ttl));
    request.ttl_ms = ttl.count();
  } else if (ec2.drill) {
    request.ttl_ms = std::chrono::milliseconds(kDrillTtl).count();
  }
  request.wait_for = args.wait_for;
  request.wait_timeout_ms = int64_t{args.wait_timeout_s} * 1000;
  RECLO_ASSIGN_OR_RETURN(request.via, recovery::parse_failover_via(ec2.via));
  request.import_bucket = ec2.import_bucket;
  request.operator_cidr = ec2.operator_cidr;
  request.no_prepare = ec2.no_prepare;
  return request;
}

// The recovery point opened for reading, and the tools to import it.
struct OpenPoint {
  ReadablePoint readable;
  std::unique_ptr<recovery::PointSource> source;
  recovery::ImportTools import;
  std::unique_ptr<recovery::PreparedSource> prepared;
};

// Preparing takes a while, so only what is put cold asks for it.
recovery::PreparePoint preparation(const Context& context, OpenPoint& point) {
  return [&context, &point](ProgressSink& progress,
                            const CancelToken& cancel) -> Result<recovery::StandbySource*> {
    const repo::MachineRecord& machine = point.readable.found.machine;
    RECLO_ASSIGN_OR_RETURN(
        point.prepared,
        prepare_for_ec2(context, point.readable.open.repository->id(), machine, *point.source,
                        point.readable.box.secret_key, progress, cancel));
    return static_cast<recovery::StandbySource*>(point.prepared.get());
  };
}

Result<std::shared_ptr<store::S3Client>> import_bucket(const Context& context,
                                                       const std::string& bucket,
                                                       const std::string& region) {
  store::StoreOptions options = context.options.store;
  options.patience = std::chrono::seconds(context.options.retry_for_seconds);
  // ImportSnapshot reads from its own region only.
  if (options.s3_region.empty()) options.s3_region = region;
  RECLO_ASSIGN_OR_RETURN(auto client, store::open_bucket(options, bucket));
  return std::shared_ptr<store::S3Client>(std::move(client));
}

Result<std::unique_ptr<OpenPoint>> open_for_ec2(const Context& context, const std::string& point,
                                                const std::string& bucket,
                                                const std::string& region) {
  auto out = std::make_unique<OpenPoint>();
  RECLO_ASSIGN_OR_RETURN(out->readable, open_point(context, point));
  const ReadablePoint& readable = out->readable;
  const repo::Repository& repository = *readable.open.repository;
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         repository.map_key(readable.found.machine, readable.box));
  out->source = std::make_unique<recovery::PointSource>(
      repository, readable.found.machine, readable.found.point, std::move(map_key),
      crypto::BoxKeyPair{readable.box.public_key, readable.box.secret_key.clone()});
  if (bucket.empty()) return out;
  RECLO_ASSIGN_OR_RETURN(out->import.bucket, import_bucket(context, bucket, region));
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions store, store_options(context));
  out->import.export_vhd = [store, &readable](uint32_t disk, const std::string& path,
                                              ProgressSink& progress,
                                              const CancelToken& cancel) -> Status {
    image::ExportRequest request;
    request.source.store = store;
    request.source.machine = readable.found.machine.id;
    request.source.point = readable.found.point.record.id;
    request.source.disk_index = disk;
    request.target_path = path;
    request.format = image::ExportFormat::kVhd;
    RECLO_TRY(image::export_disk(request, readable.box.secret_key, progress, cancel));
    return {};
  };
  return out;
}

recovery::FailoverInputs inputs_of(const Context& context, OpenPoint* point, bool no_prepare) {
  if (point == nullptr) return {};
  recovery::FailoverInputs out;
  out.source = point->source.get();
  if (point->import.bucket) out.import = &point->import;
  if (!no_prepare) out.prepare = preparation(context, *point);
  return out;
}

std::string address_text(const Ec2Instance& record) {
  if (record.public_ip.empty()) return record.private_ip.empty() ? "-" : record.private_ip;
  return fmt::format("{} (public), {} (private)", record.public_ip, record.private_ip);
}

std::string optional_duration(const std::optional<int64_t>& ms) {
  return ms ? format_duration(std::chrono::milliseconds(*ms)) : "-";
}

Status print_failover(Context& context, const recovery::FailoverResult& result,
                      const cloud::RequestMeter& meter) {
  context.progress.reset();
  for (const std::string& warning : result.warnings) log_warning("{}", warning);
  const Ec2Instance& record = result.record;
  if (context.options.json) {
    Json json = recovery::describe_ec2_instance(record, wall_now());
    json["answered"] = result.answered;
    json["was_running"] = result.was_running;
    json["warnings"] = result.warnings;
    json["requests"] = meter.requests();
    return print_json(json);
  }
  std::string out = fmt::format("Instance {} of {} {} in EC2 as {}{}\n", record.id, record.server,
                                result.was_running ? "runs already" : "runs",
                                record.instance.text(), record.request.drill ? ", a drill" : "");
  out += fmt::format("  recovery point  {} (by way of: {})\n", record.point.short_hex(),
                     recovery::failover_via_name(record.via));
  out += fmt::format("  type, zone      {}, {}\n", record.instance_type, record.zone);
  out += fmt::format("  addresses       {}\n", address_text(record));
  if (record.expires_at)
    out += fmt::format("  ends            {} (`reclo instances --reap` removes it then)\n",
                       format_time(*record.expires_at));
  out += fmt::format("  measured RTO    {}\n  measured RPO    {}\n",
                     optional_duration(record.rto_ms), optional_duration(record.rpo_ms));
  for (const recovery::StepRecord& step : record.steps)
    out +=
        fmt::format("    {:<12}  {}\n", step.name,
                    format_duration(std::chrono::milliseconds(step.finished_ms - step.started_ms)));
  return print(out + fmt::format("  stop it         reclo stop {} [--delete]\n", record.id));
}

// What `stop --delete` needs to remove an import's objects.
Result<recovery::ImportTools> tools_for_removal(const Context& context, const Ec2Instance& record) {
  recovery::ImportTools tools;
  if (record.via != recovery::FailoverVia::kImport || record.request.import_bucket.empty())
    return tools;
  Context remembered{context.options, context.cancel, nullptr};
  RECLO_ASSIGN_OR_RETURN(remembered.options.store, recovery::store_of(record.source));
  RECLO_ASSIGN_OR_RETURN(
      tools.bucket, import_bucket(remembered, record.request.import_bucket, record.cloud.region));
  return tools;
}

Status stop_one(Context& context, const Ec2Instance& record,
                const recovery::StopEc2Options& options) {
  RECLO_ASSIGN_OR_RETURN(
      const cloud::Cloud cloud,
      open_cloud(record.cloud, std::chrono::seconds(context.options.retry_for_seconds)));
  RECLO_ASSIGN_OR_RETURN(const recovery::ImportTools tools, tools_for_removal(context, record));
  return recovery::stop_failover(Ec2InstanceStore(context.options.state_directory), cloud,
                                 record.id, options, &tools, *context.progress, context.cancel);
}

}  // namespace

Status recover_on_ec2(Context& context, const RecoverArgs& args) {
  recovery::FailoverOrder order;
  RECLO_ASSIGN_OR_RETURN(order.request, request_of(args));
  RECLO_ASSIGN_OR_RETURN(const cloud::Cloud cloud, open_cloud(context, args.ec2.cloud));
  RECLO_ASSIGN_OR_RETURN(const auto point, open_for_ec2(context, args.point,
                                                        order.request.import_bucket, cloud.region));
  const repo::FoundPoint& found = point->readable.found;
  order.name = args.name;
  order.server = found.point.record.server;
  order.repository = point->readable.open.repository->id().hex();
  order.machine = found.machine.id;
  order.point = found.point.record.id;
  order.point_time = found.point.record.taken;
  order.cloud = address_of(args.ec2.cloud, cloud);
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions store, store_options(context));
  order.source = recovery::source_of(store, order.machine, order.point);
  if (!order.name.empty() &&
      recovery::InstanceStore(context.options.state_directory).find(order.name).ok())
    return Error(Code::kConflict,
                 fmt::format("an instance on this machine has the name '{}' already", order.name));
  RECLO_ASSIGN_OR_RETURN(
      const recovery::FailoverResult result,
      recovery::fail_over(Ec2InstanceStore(context.options.state_directory), cloud, order,
                          inputs_of(context, point.get(), args.ec2.no_prepare), *context.progress,
                          context.cancel));
  return print_failover(context, result, *cloud.meter);
}

Result<std::optional<Ec2Instance>> find_ec2_instance(const Context& context,
                                                     const std::string& reference) {
  const Ec2InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const auto id, store.find(reference));
  if (!id) return std::optional<Ec2Instance>();
  RECLO_ASSIGN_OR_RETURN(Ec2Instance record, store.load(*id));
  return std::optional(std::move(record));
}

Status stop_ec2(Context& context, const StopArgs& args, const Ec2Instance& record) {
  RECLO_TRY(stop_one(context, record, {args.force, args.remove}));
  context.progress.reset();
  if (context.options.json) return print_json({{"stopped", record.id}, {"deleted", args.remove}});
  if (args.remove)
    return print(
        fmt::format("Instance {} and all that was made for it in EC2 is gone.\n", record.id));
  return print(
      fmt::format("Instance {} is stopped. Its volumes are kept, and billed: `reclo resume "
                  "{}` starts it again.\n",
                  record.id, record.id));
}

Status resume_ec2(Context& context, const Ec2Instance& record) {
  RECLO_ASSIGN_OR_RETURN(
      const cloud::Cloud cloud,
      open_cloud(record.cloud, std::chrono::seconds(context.options.retry_for_seconds)));
  std::unique_ptr<OpenPoint> point;
  if (recovery::needs_recovery_point(record)) {
    RECLO_ASSIGN_OR_RETURN(context.options.store, recovery::store_of(record.source));
    RECLO_ASSIGN_OR_RETURN(point, open_for_ec2(context, record.point.hex(),
                                               record.request.import_bucket, cloud.region));
  }
  RECLO_ASSIGN_OR_RETURN(
      const recovery::FailoverResult result,
      recovery::resume_failover(Ec2InstanceStore(context.options.state_directory), cloud, record.id,
                                inputs_of(context, point.get(), record.request.no_prepare),
                                *context.progress, context.cancel));
  return print_failover(context, result, *cloud.meter);
}

Result<std::vector<recovery::SeenInstance>> see_ec2_instances(const Context& context) {
  const recovery::OpenCloud open = [](const recovery::CloudAddress& address) {
    return open_cloud(address, kLookPatience);
  };
  return recovery::see_instances(Ec2InstanceStore(context.options.state_directory), open,
                                 kLookPatience, context.cancel);
}

Result<std::vector<std::string>> reap_ec2(Context& context) {
  RECLO_ASSIGN_OR_RETURN(const auto records,
                         Ec2InstanceStore(context.options.state_directory).list());
  std::vector<std::string> reaped;
  std::optional<Error> first_failure;
  for (const Ec2Instance& record : records) {
    if (!record.overdue(wall_now()) || !record.request.drill) continue;
    const Status gone = stop_one(context, record, {true, true});
    if (gone.ok()) {
      reaped.push_back(record.id);
    } else {
      log_warning("{}", gone.error().message());
      if (!first_failure) first_failure = gone.error();
    }
  }
  if (first_failure) return *first_failure;
  return reaped;
}

}  // namespace reclo::cli
