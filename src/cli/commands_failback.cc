// failback plan, seed, cutover, status, abandon: a recovered server on its way home.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/log.h"
#include "base/units.h"
#include "cli/cloud_context.h"
#include "cli/commands.h"
#include "cli/commands_recover_ec2.h"
#include "cli/failback_text.h"
#include "recovery/ec2/failover_store.h"
#include "recovery/failback/ec2_source.h"
#include "recovery/failback/held_content.h"
#include "recovery/failback/point_base.h"
#include "recovery/failback/qemu_source.h"
#include "recovery/guest/prepare.h"
#include "repo/session.h"

namespace reclo::cli {
namespace {

using recovery::FailbackDisk;
using recovery::FailbackRecord;
using recovery::FailbackState;

Result<std::map<uint32_t, cloud::SnapshotId>> parse_snapshots(
    const std::vector<std::string>& texts) {
  std::map<uint32_t, cloud::SnapshotId> out;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    uint32_t disk = 0;
    const char* const end = text.data() + text.size();
    const char* const digits = text.data() + std::min(equals, text.size() - 1) + 1;
    const auto parsed = std::from_chars(digits, end, disk);
    if (equals == std::string::npos || parsed.ec != std::errc() || parsed.ptr != end || disk > 63)
      return Error(Code::kInvalidArgument, fmt::format("'{}' is not snap-…=DISK", text));
    RECLO_ASSIGN_OR_RETURN(out[disk], cloud::SnapshotId::parse(text.substr(0, equals)));
  }
  return out;
}

// The disks as the recovery point has them, and where they go.
Status set_disks(const repo::PointRecord& point, const FailbackArgs& args, FailbackRecord& record) {
  if (args.targets.size() != point.disks.size())
    return Error(Code::kInvalidArgument,
                 fmt::format("the server has {} disk(s): give --to as often, in their order",
                             point.disks.size()));
  for (uint32_t i = 0; i < point.disks.size(); ++i) {
    FailbackDisk disk;
    disk.index = i;
    disk.size_bytes = point.disks[i].size_bytes;
    disk.target = args.targets[i];
    for (const FailbackDisk& other : record.disks)
      if (other.target == disk.target)
        return Error(Code::kInvalidArgument, fmt::format("{} is given twice", disk.target));
    record.disks.push_back(std::move(disk));
  }
  return {};
}

std::string tag_of(const cloud::Tags& tags, const std::string& name) {
  for (const auto& [key, value] : tags)
    if (key == name) return value;
  return "";
}

Result<std::string> point_of_instance(cloud::Ec2Client& ec2, const cloud::Instance& instance,
                                      const CancelToken& cancel) {
  std::string point = tag_of(instance.tags, "reclo-point");
  if (point.empty()) {
    RECLO_ASSIGN_OR_RETURN(const auto images,
                           ec2.images({{"image-id", {instance.image.text()}}}, cancel));
    if (!images.empty()) point = tag_of(images.front().tags, "reclo-point");
  }
  if (point.empty())
    return Error(Code::kNotFound,
                 fmt::format("neither {} nor its image says from which recovery point it was "
                             "started: give --point",
                             instance.id.text()));
  return point;
}

Result<FailbackRecord> describe_ec2(const Context& context, const FailbackArgs& args,
                                    cloud::Cloud& cloud) {
  RECLO_ASSIGN_OR_RETURN(const auto id, cloud::InstanceId::parse(args.ec2_instance));
  RECLO_ASSIGN_OR_RETURN(const auto snapshots, parse_snapshots(args.snapshots));
  RECLO_ASSIGN_OR_RETURN(const cloud::Instance instance, cloud.ec2->instance(id, context.cancel));
  std::string wanted = args.point;
  if (wanted.empty()) {
    RECLO_ASSIGN_OR_RETURN(wanted, point_of_instance(*cloud.ec2, instance, context.cancel));
  }
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const repo::FoundPoint found,
                         repo::find_point(*open.repository, wanted, context.cancel));
  FailbackRecord record;
  record.source = "ec2";
  record.instance = id.text();
  record.region = cloud.region;
  record.server = found.machine.name;
  record.repository = open.repository->id();
  record.machine = found.machine.id;
  record.point = found.point.record.id;
  RECLO_TRY(set_disks(found.point.record, args, record));
  RECLO_TRY(recovery::find_ec2_disks(*cloud.ec2, instance, snapshots, record, context.cancel));
  RECLO_TRY(recovery::describe_held_content(context.options.state_directory, record));
  return record;
}

Result<FailbackRecord> describe_qemu(const Context& context, const FailbackArgs& args) {
  const recovery::InstanceStore instances(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const std::string id, instances.find(args.instance));
  RECLO_ASSIGN_OR_RETURN(const recovery::InstanceRecord instance, instances.load(id));
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const repo::FoundPoint found,
                         repo::find_point(*open.repository, instance.point, context.cancel));
  FailbackRecord record;
  record.source = "qemu";
  record.instance = id;
  record.server = found.machine.name;
  record.repository = open.repository->id();
  record.machine = found.machine.id;
  record.point = found.point.record.id;
  RECLO_TRY(set_disks(found.point.record, args, record));
  return record;
}

// An instance that `recover --on ec2` noted here is as good as its id in EC2, and tells more.
Result<FailbackArgs> resolve_instance(const Context& context, FailbackArgs args) {
  if (args.instance.empty()) return args;
  const recovery::Ec2InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const std::optional<std::string> id, store.find(args.instance));
  if (!id) return args;
  RECLO_ASSIGN_OR_RETURN(const recovery::Ec2Instance record, store.load(*id));
  if (record.instance.empty())
    return Error(Code::kConflict,
                 fmt::format("{} has no instance in EC2 yet: finish the failover first", *id));
  args.instance.clear();
  args.ec2_instance = record.instance.text();
  if (args.point.empty()) args.point = record.point.hex();
  if (args.snapshots.empty())
    for (size_t i = 0; i < record.image_disks.size(); ++i)
      args.snapshots.push_back(fmt::format("{}={}", record.image_disks[i].snapshot.text(), i));
  if (args.cloud.region.empty()) args.cloud.region = record.cloud.region;
  if (args.cloud.role_arn.empty()) args.cloud.role_arn = record.cloud.role_arn;
  if (args.cloud.ec2_endpoint.empty()) args.cloud.ec2_endpoint = record.cloud.ec2_endpoint;
  if (args.cloud.ebs_endpoint.empty()) args.cloud.ebs_endpoint = record.cloud.ebs_endpoint;
  return args;
}

// The failback of this instance that is under way, or a new one that is not on disk yet.
Result<FailbackRecord> find_or_describe(const Context& context, const FailbackArgs& given,
                                        std::optional<cloud::Cloud>& cloud) {
  RECLO_ASSIGN_OR_RETURN(const FailbackArgs args, resolve_instance(context, given));
  const bool ec2 = !args.ec2_instance.empty();
  if (ec2 == !args.instance.empty())
    return Error(Code::kInvalidArgument, "give --instance ID or --ec2-instance i-…");
  const recovery::FailbackStore store(context.options.state_directory);
  std::string instance = args.ec2_instance;
  if (!ec2) {
    const recovery::InstanceStore instances(context.options.state_directory);
    RECLO_ASSIGN_OR_RETURN(instance, instances.find(args.instance));
  }
  RECLO_ASSIGN_OR_RETURN(auto under_way, store.of_instance(instance));
  CloudArgs where = args.cloud;
  if (under_way && where.region.empty()) where.region = under_way->region;
  if (ec2) {
    RECLO_ASSIGN_OR_RETURN(cloud, open_cloud(context, where));
  }
  if (under_way) {
    for (size_t i = 0; i < args.targets.size(); ++i)
      if (i >= under_way->disks.size() || under_way->disks[i].target != args.targets[i])
        return Error(Code::kConflict,
                     fmt::format("failback {} of {} goes to other disks: abandon it first",
                                 under_way->id, instance));
    return *std::move(under_way);
  }
  RECLO_ASSIGN_OR_RETURN(FailbackRecord record,
                         ec2 ? describe_ec2(context, args, *cloud) : describe_qemu(context, args));
  record.force = args.force;
  for (const FailbackDisk& disk : record.disks)
    RECLO_TRY(recovery::check_target(disk.target, disk.size_bytes, record.force));
  return record;
}

// Opens and unlocks the repository when a disk needs its recovery point, and pins that.
class LazyBase {
 public:
  LazyBase(const Context& context, const FailbackRecord& record)
      : context_(context), point_(record.point.hex()) {}
  ~LazyBase() {
    if (pin_)
      ignore_error(
          repo::end_reader_session(*readable_.open.repository, readable_.found.machine.id, *pin_,
                                   CancelToken().with_timeout(std::chrono::seconds(10))),
          "an open reader session is fenced when it expires");
  }
  LazyBase(const LazyBase&) = delete;
  LazyBase& operator=(const LazyBase&) = delete;

  Result<recovery::FailbackBase*> get(const CancelToken& cancel) {
    if (base_) return base_.get();
    RECLO_ASSIGN_OR_RETURN(readable_, open_point(context_, point_));
    const repo::Repository& repository = *readable_.open.repository;
    const repo::FoundPoint& found = readable_.found;
    const auto pin =
        repo::begin_reader_session(repository, found.machine.id, found.point.record.id, cancel);
    if (pin.ok()) pin_ = *pin;
    if (!pin.ok())
      log_warning("the recovery point is not pinned while it is read: {}", pin.error().message());
    RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                           repository.map_key(found.machine, readable_.box));
    base_ = std::make_unique<recovery::PointBase>(repository, found.machine.id, found.point.record,
                                                  std::move(map_key), std::move(readable_.box));
    return base_.get();
  }

 private:
  const Context& context_;
  const std::string point_;
  ReadablePoint readable_;
  std::optional<SessionId> pin_;
  std::unique_ptr<recovery::PointBase> base_;
};

// Everything that a Failback is made from, alive together.
struct Journey {
  explicit Journey(const Context& context)
      : store(context.options.state_directory), instances(context.options.state_directory) {}
  recovery::FailbackStore store;
  recovery::InstanceStore instances;
  std::optional<cloud::Cloud> cloud;
  std::unique_ptr<recovery::FailbackSource> source;
  std::unique_ptr<LazyBase> base;
  std::optional<recovery::Failback> failback;
};

// A target whose preparation is not known to be there may hold no system that could be looked at.
Result<std::vector<std::string>> undo_preparation(const std::optional<bool>& prepared,
                                                  const std::vector<std::string>& targets,
                                                  const CancelToken& cancel) {
  std::vector<std::string> notes;
  if (prepared && !*prepared) return notes;
  const auto report = recovery::unprepare_guest(targets, cancel);
  if (!report.ok()) {
    const Code code = report.error().code();
    const bool may_be_none = !prepared && (code == Code::kUnsupported || code == Code::kNotFound);
    if (!may_be_none) return report.error();
    notes.push_back("Nobody looked whether the disks hold what was changed for the cloud: " +
                    report.error().message());
    return notes;
  }
  if (!report->restored.empty())
    notes.push_back(fmt::format("{} changes that were made for the cloud were taken back: {}",
                                report->restored.size(), fmt::join(report->restored, ", ")));
  for (const std::string& path : report->left) notes.push_back("left as it is: " + path);
  return notes;
}

Status open_journey(const Context& context, FailbackRecord record, const CloudArgs& cloud,
                    Journey& out) {
  if (record.source == "ec2") {
    CloudArgs where = cloud;
    if (where.region.empty()) where.region = record.region;
    if (!out.cloud) {
      RECLO_ASSIGN_OR_RETURN(out.cloud, open_cloud(context, where));
    }
    out.source = std::make_unique<recovery::Ec2FailbackSource>(*out.cloud->ebs, *out.cloud->ec2);
  } else {
    RECLO_ASSIGN_OR_RETURN(recovery::InstanceRecord instance, out.instances.load(record.instance));
    out.source = std::make_unique<recovery::QemuFailbackSource>(out.instances, std::move(instance));
  }
  out.base = std::make_unique<LazyBase>(context, record);
  recovery::FailbackParts parts;
  parts.source = out.source.get();
  parts.base = [&out](const CancelToken& cancel) { return out.base->get(cancel); };
  parts.undo_preparation = [prepared = record.prepared](const std::vector<std::string>& targets,
                                                        const CancelToken& cancel) {
    return undo_preparation(prepared, targets, cancel);
  };
  RECLO_ASSIGN_OR_RETURN(auto failback,
                         recovery::Failback::open(out.store, std::move(record), std::move(parts)));
  out.failback.emplace(std::move(failback));
  return {};
}

// Asks on the terminal. Errors: kInvalidArgument when there is none, kCancelled for a no.
Status confirm(const FailbackArgs& args, const std::string& question) {
  if (args.yes) return {};
  if (::isatty(STDIN_FILENO) == 0)
    return Error(Code::kInvalidArgument, question + " Say --yes when that is meant");
  fmt::print(stderr, "{} [y/N] ", question);
  char answer[16] = {};
  if (std::fgets(answer, sizeof answer, stdin) != nullptr && (answer[0] == 'y' || answer[0] == 'Y'))
    return {};
  return Error(Code::kCancelled, "nothing was done");
}

}  // namespace

Status run_failback_plan(Context& context, const FailbackArgs& args) {
  PlanRequest request;
  RECLO_ASSIGN_OR_RETURN(request.window_s, parse_window(args.window));
  if (!args.bandwidth.empty()) {
    RECLO_ASSIGN_OR_RETURN(request.bandwidth_bytes_per_second, parse_size_bytes(args.bandwidth));
  }
  std::optional<cloud::Cloud> cloud;
  RECLO_ASSIGN_OR_RETURN(request.record, find_or_describe(context, args, cloud));
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(
      const repo::FoundPoint found,
      repo::find_point(*open.repository, request.record.point.hex(), context.cancel));
  for (const repo::DiskRecord& disk : found.point.record.disks)
    request.point_data_bytes += disk.allocated_bytes;
  if (request.record.source == "qemu") {
    const recovery::InstanceStore instances(context.options.state_directory);
    RECLO_ASSIGN_OR_RETURN(request.overlay_bytes,
                           overlay_file_bytes(instances, request.record.instance));
  }
  context.progress.reset();
  return context.options.json ? print_json(plan_json(request)) : print(plan_text(request));
}

Status run_failback_seed(Context& context, const FailbackArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const double window_s, parse_window(args.window));
  Journey journey(context);
  RECLO_ASSIGN_OR_RETURN(FailbackRecord record, find_or_describe(context, args, journey.cloud));
  RECLO_TRY(open_journey(context, std::move(record), args.cloud, journey));
  RECLO_ASSIGN_OR_RETURN(const auto report,
                         journey.failback->seed(*context.progress, context.cancel));
  context.progress.reset();
  for (const std::string& warning : report.warnings) log_warning("{}", warning);
  return context.options.json ? print_json(report_json(report, window_s))
                              : print(seed_text(report, window_s));
}

Status run_failback_cutover(Context& context, const FailbackArgs& args) {
  Journey journey(context);
  RECLO_ASSIGN_OR_RETURN(FailbackRecord record, journey.store.find(args.failback));
  if (record.state == FailbackState::kSeeding)
    RECLO_TRY(confirm(args, fmt::format("This stops {} ({}).", record.instance, record.server)));
  RECLO_TRY(open_journey(context, std::move(record), args.cloud, journey));
  RECLO_ASSIGN_OR_RETURN(const auto report,
                         journey.failback->cutover(*context.progress, context.cancel));
  context.progress.reset();
  for (const std::string& warning : report.warnings) log_warning("{}", warning);
  return context.options.json ? print_json(report_json(report, 0)) : print(cutover_text(report));
}

Status run_failback_status(Context& context, const FailbackArgs& args) {
  const recovery::FailbackStore store(context.options.state_directory);
  std::vector<FailbackRecord> records;
  if (args.failback.empty()) {
    RECLO_ASSIGN_OR_RETURN(records, store.list());
  } else {
    RECLO_ASSIGN_OR_RETURN(FailbackRecord record, store.find(args.failback));
    records.push_back(std::move(record));
  }
  context.progress.reset();
  if (!context.options.json) return print(status_text(records));
  Json json = Json::array();
  for (const FailbackRecord& record : records) json.push_back(failback_json(record));
  return print_json(json);
}

Status run_failback_abandon(Context& context, const FailbackArgs& args) {
  Journey journey(context);
  RECLO_ASSIGN_OR_RETURN(FailbackRecord record, journey.store.find(args.failback));
  const std::string id = record.id;
  RECLO_TRY(confirm(args, fmt::format("This gives up failback {} of {}.", id, record.server)));
  RECLO_TRY(open_journey(context, std::move(record), args.cloud, journey));
  RECLO_TRY(journey.failback->abandon(context.cancel));
  context.progress.reset();
  if (context.options.json) return print_json({{"abandoned", id}});
  return print(
      fmt::format("Failback {} is given up: its snapshots are gone, the disks here stay "
                  "as they are\n",
                  id));
}

}  // namespace reclo::cli
