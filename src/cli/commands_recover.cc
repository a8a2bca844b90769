// recover, instances, stop, resume: a server running again, and what becomes of it.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/commands_recover_ec2.h"
#include "cli/terminal.h"
#include "os/subprocess.h"
#include "recovery/instance.h"
#include "recovery/repository_exporter.h"
#include "recovery/supervisor.h"
#include "repo/session.h"

namespace reclo::cli {
namespace {

using recovery::InstanceRecord;

recovery::Firmware firmware_of(const std::string& text) {
  if (text == "bios") return recovery::Firmware::kBios;
  return text == "uefi" ? recovery::Firmware::kUefi : recovery::Firmware::kAuto;
}

recovery::DiskBus disk_bus_of(const std::string& text) {
  if (text == "nvme") return recovery::DiskBus::kNvme;
  return text == "sata" ? recovery::DiskBus::kSata : recovery::DiskBus::kVirtio;
}

Result<recovery::RecoverOptions> recover_options(const RecoverArgs& args,
                                                 const repo::PointRecord& point) {
  recovery::RecoverOptions options;
  options.name = args.name;
  options.server = point.server;
  options.point = point.id.hex();
  options.point_time = point.taken;
  for (size_t i = 0; i < point.disks.size(); ++i)
    options.disks.push_back({static_cast<uint32_t>(i), point.disks[i].size_bytes});
  RECLO_ASSIGN_OR_RETURN(options.memory_bytes, parse_size_bytes(args.memory));
  options.cpus = args.cpus;
  for (const std::string& text : args.forwards) {
    RECLO_ASSIGN_OR_RETURN(const recovery::Forward forward, recovery::parse_forward(text));
    options.forwards.push_back(forward);
  }
  options.accelerator = args.accelerator;
  options.display = args.display == "vnc" ? recovery::Display::kVnc : recovery::Display::kNone;
  options.firmware = firmware_of(args.firmware);
  options.disk_bus = disk_bus_of(args.disk_bus);
  options.isolated = args.isolated;
  options.wait_for = args.wait_for;
  options.wait_timeout = std::chrono::seconds(args.wait_timeout_s);
  options.hydrate = args.hydrate;
  if (!args.hydrate_limit.empty()) {
    RECLO_ASSIGN_OR_RETURN(options.hydration_limit_bytes_per_second,
                           parse_size_bytes(args.hydrate_limit));
  }
  return options;
}

Result<recovery::SupervisorLaunch> supervisor_launch(const crypto::SecretKey* key) {
  RECLO_ASSIGN_OR_RETURN(const std::string self, os::self_executable());
  recovery::SupervisorLaunch launch;
  launch.argv = {self, "instance-supervisor"};
  launch.key = key;
  return launch;
}

constexpr const char* kReaderSession = "reader_session";

// An instance reads its recovery point lazily, so it pins it: nothing may be removed under a
// running server. The pin ends when the instance is deleted. A read-only credential cannot pin:
// that is said.
void pin_point(const repo::Repository& repository, const repo::FoundPoint& found,
               const CancelToken& cancel, recovery::RecoverOptions& options) {
  const auto session =
      repo::begin_reader_session(repository, found.machine.id, found.point.record.id, cancel);
  if (session.ok()) {
    options.source[kReaderSession] = session->hex();
  } else {
    log_warning("the recovery point is not pinned while the instance reads it: {}",
                session.error().message());
  }
}

Status unpin_point(const InstanceRecord& record, const CancelToken& cancel) {
  const auto session = record.source.find(kReaderSession);
  const auto machine = record.source.find("machine");
  if (session == record.source.end() || machine == record.source.end()) return {};
  RECLO_ASSIGN_OR_RETURN(const SessionId session_id, SessionId::parse(session->second));
  RECLO_ASSIGN_OR_RETURN(const MachineId machine_id, MachineId::parse(machine->second));
  RECLO_ASSIGN_OR_RETURN(store::StoreOptions options, recovery::store_of(record.source));
  options.patience = std::chrono::seconds(20);
  RECLO_ASSIGN_OR_RETURN(const auto store, store::open_store(options, cancel));
  RECLO_ASSIGN_OR_RETURN(const repo::Repository repository, repo::Repository::open(*store, cancel));
  return repo::end_reader_session(repository, machine_id, session_id, cancel);
}

Json instance_json(const InstanceRecord& record) { return recovery::describe_instance(record); }

std::string addresses_of(const InstanceRecord& record) {
  std::string out;
  for (const recovery::Forward& forward : record.forwards)
    out += fmt::format("{}{}:{} -> {}", out.empty() ? "" : ", ", forward.host_address,
                       forward.host_port, forward.guest_port);
  return out.empty() ? "-" : out;
}

std::string optional_duration(const std::optional<int64_t>& ms) {
  return ms ? format_duration(std::chrono::milliseconds(*ms)) : "-";
}

Json ec2_json(const recovery::SeenInstance& seen) {
  Json json = recovery::describe_ec2_instance(seen.record, wall_now());
  json["asked"] = seen.asked;
  return json;
}

std::vector<std::string> ec2_row(const recovery::SeenInstance& seen) {
  const recovery::Ec2Instance& record = seen.record;
  std::string state(recovery::failover_state_name(record.state));
  if (!record.instance.empty())
    state += fmt::format(", {}{}", record.ec2_state, seen.asked ? "" : " (last known)");
  const std::string& address = record.public_ip.empty() ? record.private_ip : record.public_ip;
  return {record.id,
          record.server,
          record.point.short_hex(),
          record.request.drill ? "ec2 drill" : "ec2",
          state,
          address.empty() ? "-" : address,
          optional_duration(record.rto_ms),
          optional_duration(record.rpo_ms),
          "-"};
}

Status print_result(Context& context, const recovery::RecoverResult& result) {
  context.progress.reset();
  const InstanceRecord& record = result.record;
  if (context.options.json) {
    Json json = instance_json(record);
    json["answered"] = result.answered;
    json["first_answer_ms"] = result.first_answer_ms;
    return print_json(json);
  }
  std::string out = fmt::format("Instance {} of {} runs", record.id, record.server);
  out += result.answered
             ? fmt::format("; first answer after {}\n",
                           format_duration(std::chrono::milliseconds(result.first_answer_ms)))
             : std::string("\n");
  out += fmt::format("  recovery point  {}\n", record.point.substr(0, 8));
  out += fmt::format("  addresses       {}\n", addresses_of(record));
  if (!record.vnc_address.empty())
    out += fmt::format("  display         vnc {}\n", record.vnc_address);
  out += fmt::format("  measured RTO    {}\n  measured RPO    {}\n",
                     optional_duration(record.rto_ms), optional_duration(record.rpo_ms));
  for (const recovery::StepRecord& step : record.steps)
    out +=
        fmt::format("    {:<12}  {}\n", step.name,
                    format_duration(std::chrono::milliseconds(step.finished_ms - step.started_ms)));
  return print(out + fmt::format("  stop it         reclo stop {}\n", record.id));
}

}  // namespace

Status run_recover(Context& context, const RecoverArgs& args) {
  if (args.target == "ec2") return recover_on_ec2(context, args);
  RECLO_ASSIGN_OR_RETURN(const ReadablePoint readable, open_point(context, args.point));
  RECLO_ASSIGN_OR_RETURN(recovery::RecoverOptions options,
                         recover_options(args, readable.found.point.record));
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions store, store_options(context));
  options.source =
      recovery::source_of(store, readable.found.machine.id, readable.found.point.record.id);
  pin_point(*readable.open.repository, readable.found, context.cancel, options);
  RECLO_ASSIGN_OR_RETURN(auto exporter, recovery::RepositoryExporter::open(
                                            options.source, readable.box.secret_key.clone()));
  RECLO_ASSIGN_OR_RETURN(const auto launch, supervisor_launch(&readable.box.secret_key));
  const recovery::InstanceStore instances(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(
      const recovery::RecoverResult result,
      recovery::recover(instances, options, exporter, launch, *context.progress, context.cancel));
  return print_result(context, result);
}

Status run_instances(Context& context, const InstancesArgs& args) {
  std::vector<std::string> reaped;
  if (args.reap) {
    RECLO_ASSIGN_OR_RETURN(reaped, reap_ec2(context));
  }
  const recovery::InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const auto records, recovery::list_instances(store));
  RECLO_ASSIGN_OR_RETURN(const auto in_ec2, see_ec2_instances(context));
  context.progress.reset();
  for (const std::string& id : reaped) log_warning("drill {} was past its time: removed", id);
  for (const recovery::SeenInstance& seen : in_ec2)
    if (seen.record.overdue(wall_now()))
      log_warning("{} of {} is past its time: `reclo stop {} --delete`{}", seen.record.id,
                  seen.record.server, seen.record.id,
                  seen.record.request.drill ? ", or `reclo instances --reap`" : "");
  if (context.options.json) {
    Json json = Json::array();
    for (const InstanceRecord& record : records) json.push_back(instance_json(record));
    for (const recovery::SeenInstance& seen : in_ec2) json.push_back(ec2_json(seen));
    return print_json(json);
  }
  if (records.empty() && in_ec2.empty())
    return print("No recovered servers on this machine, nor in EC2.\n");
  std::vector<std::vector<std::string>> rows{
      {"INSTANCE", "SERVER", "POINT", "TARGET", "STATE", "ADDRESSES", "RTO", "RPO", "HYDRATION"}};
  for (const InstanceRecord& record : records)
    rows.push_back({record.id, record.server, record.point.substr(0, 8), "qemu",
                    std::string(recovery::state_name(record.state)), addresses_of(record),
                    optional_duration(record.rto_ms), optional_duration(record.rpo_ms),
                    std::string(recovery::hydration_name(record.hydration))});
  for (const recovery::SeenInstance& seen : in_ec2) rows.push_back(ec2_row(seen));
  return print(format_table(rows));
}

Status run_stop(Context& context, const StopArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const auto in_ec2, find_ec2_instance(context, args.instance));
  if (in_ec2) return stop_ec2(context, args, *in_ec2);
  const recovery::InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const std::string id, store.find(args.instance));
  recovery::StopOptions options;
  options.force = args.force;
  options.delete_instance = args.remove;
  RECLO_ASSIGN_OR_RETURN(const InstanceRecord record, store.load(id));
  RECLO_TRY(recovery::stop_instance(store, id, options, *context.progress, context.cancel));
  if (args.remove) {
    const Status unpinned = unpin_point(record, context.cancel);
    if (!unpinned.ok())
      log_warning("the instance's pin on its recovery point stays until it expires: {}",
                  unpinned.error().message());
  }
  context.progress.reset();
  if (context.options.json) return print_json({{"stopped", id}, {"deleted", args.remove}});
  return print(
      args.remove
          ? fmt::format("Instance {} is stopped and deleted.\n", id)
          : fmt::format(
                "Instance {} is stopped. Its disks are kept: `reclo resume {}` starts it again.\n",
                id, id));
}

Status run_resume(Context& context, const ResumeArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const auto in_ec2, find_ec2_instance(context, args.instance));
  if (in_ec2) return resume_ec2(context, *in_ec2);
  const recovery::InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const std::string id, store.find(args.instance));
  RECLO_ASSIGN_OR_RETURN(const InstanceRecord record, store.load(id));
  RECLO_ASSIGN_OR_RETURN(const bool needed, recovery::needs_repository(store, record));
  std::optional<recovery::RepositoryExporter> exporter;
  std::optional<crypto::BoxKeyPair> box;
  if (needed) {
    RECLO_ASSIGN_OR_RETURN(context.options.store, recovery::store_of(record.source));
    RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
    RECLO_ASSIGN_OR_RETURN(box, unlock(context, *open.repository));
    RECLO_ASSIGN_OR_RETURN(
        exporter, recovery::RepositoryExporter::open(record.source, box->secret_key.clone()));
  }
  RECLO_ASSIGN_OR_RETURN(const auto launch, supervisor_launch(box ? &box->secret_key : nullptr));
  RECLO_ASSIGN_OR_RETURN(const recovery::RecoverResult result,
                         recovery::resume_instance(store, id, {}, exporter ? &*exporter : nullptr,
                                                   launch, *context.progress, context.cancel));
  return print_result(context, result);
}

Status run_supervisor(Context& context, const SupervisorArgs& args) {
  const recovery::InstanceStore store(context.options.state_directory);
  RECLO_ASSIGN_OR_RETURN(const InstanceRecord record, store.load(args.instance));
  std::optional<recovery::RepositoryExporter> exporter;
  if (args.key_fd >= 0) {
    RECLO_ASSIGN_OR_RETURN(crypto::SecretKey key, recovery::read_key_descriptor(args.key_fd));
    RECLO_ASSIGN_OR_RETURN(exporter,
                           recovery::RepositoryExporter::open(record.source, std::move(key)));
  }
  return recovery::supervise(store, args.instance, exporter ? &*exporter : nullptr, {},
                             context.cancel);
}

}  // namespace reclo::cli
