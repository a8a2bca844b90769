#include "recovery/ec2/failover_launch.h"

#include <algorithm>

#include "base/kill_point.h"
#include "recovery/wait_for.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kInitializationRate = 300;  // MiB/s, the most: lazily read volumes are slow
constexpr auto kPollInterval = std::chrono::seconds(1);
constexpr auto kRunningPatience = std::chrono::minutes(15);
constexpr auto kVisiblePatience = std::chrono::minutes(2);
constexpr auto kStateEvery = std::chrono::seconds(10);

bool is_over(std::string_view state) { return state == "shutting-down" || state == "terminated"; }

cloud::RunInstance run_request(const FailoverBench& bench, const Launch& launch) {
  const Ec2Instance& record = bench.record;
  cloud::RunInstance out;
  out.image = record.image;
  out.instance_type = launch.instance_type;
  out.subnet = launch.subnet;
  out.security_groups = launch.security_groups;
  out.key_name = launch.key_name;
  out.private_ip = launch.private_ip;
  out.user_data = clone_user_data(record);
  out.client_token = bench.client_token(fmt::format("launch/{}", launch.number));
  for (const ImageDisk& disk : record.image_disks)
    out.disks.push_back({disk.device, disk.snapshot, 0, kInitializationRate});
  out.tags = bench.tags();
  if (record.expires_at) out.tags["reclo-expires"] = format_time(*record.expires_at);
  return out;
}

// EC2 answered, and there is no instance of this launch. Of other failures nobody knows.
bool is_refusal(Code code) {
  return code == Code::kInvalidArgument || code == Code::kNotFound ||
         code == Code::kPermissionDenied || code == Code::kAlreadyExists ||
         code == Code::kResourceExhausted;
}

Status refuse(FailoverBench& bench, const std::string& why) {
  Ec2Instance& record = bench.record;
  if (!record.launches.empty()) record.launches.back().refused = why;
  record.instance = {};
  record.ec2_state.clear();
  return bench.save();
}

Launch next_launch(const Ec2Instance& record, const LaunchCandidate& candidate) {
  Launch launch;
  launch.number = record.launches.empty() ? 1 : record.launches.back().number + 1;
  launch.instance_type = candidate.instance_type;
  launch.subnet = candidate.subnet;
  launch.zone = candidate.zone;
  launch.security_groups = record.request.security_groups;
  if (launch.security_groups.empty()) launch.security_groups.push_back(record.made_group);
  launch.key_name = record.request.key_name;
  launch.private_ip = record.request.private_ip;
  return launch;
}

Status note_launch(FailoverBench& bench, const LaunchCandidate& candidate) {
  Ec2Instance& record = bench.record;
  record.launches.push_back(next_launch(record, candidate));
  if (record.launches.size() > kLaunchesMax) record.launches.erase(record.launches.begin());
  if (record.request.ttl_ms > 0)
    record.expires_at = wall_now() + std::chrono::milliseconds(record.request.ttl_ms);
  RECLO_TRY(bench.save());
  RECLO_KILL_POINT("failover.launch_noted");
  return {};
}

// Pending ─▶ running. Capacity may also run out after EC2 has said yes: the instance then ends, and
// this returns kResourceExhausted as if it had said no.
Status await_running(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  const CancelToken deadline = bench.cancel.with_timeout(kRunningPatience);
  const Stopwatch since;
  for (;;) {
    const auto found = bench.cloud.ec2->instance(record.instance, bench.cancel);
    if (!found.ok() && found.error().code() != Code::kNotFound) return found.error();
    if (!found.ok() && since.elapsed() > kVisiblePatience) {
      RECLO_TRY(refuse(bench, "it vanished"));
      return Error(Code::kIo,
                   fmt::format("instance {} was started and is not there", record.instance.text()));
    }
    if (found.ok()) {
      note_instance(record, *found);
      if (found->state == "running") break;
      if (is_over(found->state)) {
        const std::string why =
            fmt::format("{} ended while starting: {}", found->id.text(), found->state_reason);
        RECLO_TRY(refuse(bench, why));
        const bool room = why.find("InsufficientInstanceCapacity") == std::string::npos;
        return Error(room ? Code::kIo : Code::kResourceExhausted, why);
      }
      if (found->state == "stopped")
        RECLO_TRY(bench.cloud.ec2->start_instance(record.instance, bench.cancel));
      bench.progress.update({"the instance starts", 0, 0, 0, found->state});
    }
    RECLO_TRY_WITH(deadline.sleep_for(kPollInterval),
                   fmt::format("instance {} does not run yet", record.instance.text()));
  }
  record.state = FailoverState::kRunning;
  RECLO_TRY(bench.save());
  RECLO_KILL_POINT("failover.running");
  return {};
}

// Asks for the last launch's instance.
Status run_launch(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  auto started =
      bench.cloud.ec2->run_instance(run_request(bench, record.launches.back()), bench.cancel);
  RECLO_KILL_POINT("failover.instance_started");
  if (!started.ok()) {
    if (is_refusal(started.error().code())) RECLO_TRY(refuse(bench, started.error().message()));
    return std::move(started).error();
  }
  note_instance(record, *started);
  record.state = FailoverState::kLaunched;
  return bench.save();
}

Status launch_and_wait(FailoverBench& bench) {
  RECLO_TRY(run_launch(bench));
  RECLO_KILL_POINT("failover.instance_noted");
  return await_running(bench);
}

// What an earlier run may have left running: known, or only by its tag.
Status adopt(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  RECLO_ASSIGN_OR_RETURN(const auto found, find_instances(bench));
  if (found.empty()) {
    if (!record.instance.empty()) {
      const auto known = bench.cloud.ec2->instance(record.instance, bench.cancel);
      if (!known.ok() && known.error().code() != Code::kNotFound) return known.error();
      if (known.ok() && !is_over(known->state)) return {};
      bench.warnings.push_back(fmt::format(
          "instance {} was terminated by somebody else: another one is started from the recovery "
          "point",
          record.instance.text()));
      RECLO_TRY(refuse(bench, "terminated"));
      record.rto_ms.reset();
    }
    return {};
  }
  if (found.size() > 1)
    bench.warnings.push_back(fmt::format("there are {} instances of this failover: {} and {}",
                                         found.size(), found[0].id.text(), found[1].id.text()));
  note_instance(record, found.front());
  return bench.save();
}

Status stopped_first(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  const CancelToken deadline = bench.cancel.with_timeout(kRunningPatience);
  while (record.ec2_state == "stopping") {
    RECLO_TRY_WITH(deadline.sleep_for(kPollInterval), "the instance is still stopping");
    RECLO_ASSIGN_OR_RETURN(const auto found,
                           bench.cloud.ec2->instance(record.instance, bench.cancel));
    note_instance(record, found);
  }
  return {};
}

}  // namespace

bool has_open_launch(const Ec2Instance& record) {
  return !record.launches.empty() && record.launches.back().refused.empty();
}

void note_instance(Ec2Instance& record, const cloud::Instance& instance) {
  record.instance = instance.id;
  record.ec2_state = instance.state;
  record.instance_type = instance.type;
  record.zone = instance.zone;
  record.private_ip = instance.private_ip;
  record.public_ip = instance.public_ip;
}

Result<std::vector<cloud::Instance>> find_instances(const FailoverBench& bench) {
  cloud::Filters filters = bench.made_for_it();
  filters.push_back({"instance-state-name", {"pending", "running", "stopping", "stopped"}});
  return bench.cloud.ec2->instances(filters, bench.cancel);
}

Status ensure_running(FailoverBench& bench, const FailoverPlan& plan) {
  Ec2Instance& record = bench.record;
  RECLO_TRY(adopt(bench));
  if (!record.instance.empty()) {
    RECLO_TRY(stopped_first(bench));
    return await_running(bench);
  }
  std::string refusals;
  const auto next_one = [&](const Status& tried) {
    if (tried.error().code() != Code::kResourceExhausted) return false;
    bench.progress.note(tried.error().message());
    refusals += (refusals.empty() ? "" : "; ") + tried.error().message();
    return true;
  };
  if (has_open_launch(record)) {
    const Status tried = launch_and_wait(bench);
    if (tried.ok() || !next_one(tried)) return tried;
  }
  for (const LaunchCandidate& candidate : plan.candidates) {
    RECLO_TRY(note_launch(bench, candidate));
    const Status tried = launch_and_wait(bench);
    if (tried.ok() || !next_one(tried)) return tried;
  }
  return Error(Code::kResourceExhausted,
               fmt::format("no instance could be started: give other --instance-type, another "
                           "--subnet or --region, or raise the quota ({})",
                           refusals));
}

Result<WaitTarget> wait_target_at(const std::string& text, const std::string& address) {
  RECLO_ASSIGN_OR_RETURN(WaitTarget target, parse_wait_target(text, {}));
  const size_t colon = text.find(':');
  const std::string rest = text.substr(colon + 1, text.find('/', colon) - colon - 1);
  const bool bare = !text.starts_with("http://") && rest.find(':') == std::string::npos;
  if (bare) {
    target.address = address;
    target.host_header = fmt::format("{}:{}", address, target.port);
  }
  return target;
}

Status await_answer(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  const std::string address = record.public_ip.empty() ? record.private_ip : record.public_ip;
  RECLO_ASSIGN_OR_RETURN(const WaitTarget target, wait_target_at(record.request.wait_for, address));
  const CancelToken deadline =
      bench.cancel.with_timeout(std::chrono::milliseconds(record.request.wait_timeout_ms));
  const EstablishedCheck direct = [](const WaitTarget&) -> Result<bool> { return true; };
  Stopwatch state_age;
  while (deadline.check().ok()) {
    const Stopwatch attempt;
    RECLO_ASSIGN_OR_RETURN(const Probe probe, probe_target(target, direct, deadline));
    if (probe == Probe::kAnswered) return {};
    if (state_age.elapsed() > kStateEvery) {
      RECLO_ASSIGN_OR_RETURN(const auto found,
                             bench.cloud.ec2->instance(record.instance, bench.cancel));
      note_instance(record, found);
      if (found.state != "running")
        return Error(Code::kIo, fmt::format("{} is {} and did not answer: {}", found.id.text(),
                                            found.state, found.state_reason));
      state_age.restart();
    }
    bench.progress.update({"waiting for the first answer", 0, 0, 0, target.address});
    ignore_error(deadline.sleep_for(pause_after(probe, attempt.elapsed())),
                 "the loop's condition asks the same");
  }
  RECLO_TRY(bench.cancel.check());
  return Error(
      Code::kTimeout,
      fmt::format("{} at {} did not answer within {}; the instance {} runs on",
                  record.request.wait_for, address,
                  format_duration(std::chrono::milliseconds(record.request.wait_timeout_ms)),
                  record.instance.text()));
}

}  // namespace reclo::recovery
