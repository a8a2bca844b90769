// The way down, and looking: `reclo stop` and `reclo instances` for EC2. failover.h declares them.
//
// Deleting, in this order: noted ─▶ instances terminated and seen gone (also one whose start was
// never answered) ─▶ image ─▶ snapshots ─▶ group ─▶ the record. What was made is found by its tags
// as well as by the record, so nothing stays behind that was made and not noted.
#include <algorithm>
#include <map>

#include "base/kill_point.h"
#include "base/log.h"
#include "recovery/ec2/failover.h"
#include "recovery/ec2/failover_image.h"
#include "recovery/ec2/failover_launch.h"
#include "recovery/ec2/failover_network.h"

namespace reclo::recovery {
namespace {

constexpr auto kPollInterval = std::chrono::seconds(1);
constexpr auto kGonePatience = std::chrono::minutes(15);
// An instance that was just started may not be listed yet.
constexpr int kLooksForLost = 5;

// All instances of this failover, the known one included.
Result<std::vector<cloud::Instance>> all_instances(FailoverBench& bench) {
  RECLO_ASSIGN_OR_RETURN(std::vector<cloud::Instance> found, find_instances(bench));
  const cloud::InstanceId& known = bench.record.instance;
  const bool listed =
      std::any_of(found.begin(), found.end(), [&](const auto& one) { return one.id == known; });
  if (known.empty() || listed) return found;
  auto instance = bench.cloud.ec2->instance(known, bench.cancel);
  if (!instance.ok() && instance.error().code() != Code::kNotFound)
    return std::move(instance).error();
  if (instance.ok() && instance->state != "terminated") found.push_back(*std::move(instance));
  return found;
}

Status await_states(FailoverBench& bench, const cloud::InstanceId& id, std::string_view wanted,
                    const char* doing) {
  const CancelToken deadline = bench.cancel.with_timeout(kGonePatience);
  for (;;) {
    const auto found = bench.cloud.ec2->instance(id, bench.cancel);
    if (!found.ok() && found.error().code() == Code::kNotFound) return {};
    RECLO_TRY(found);
    if (found->state == wanted || found->state == "terminated") return {};
    bench.progress.update({doing, 0, 0, 0, found->state});
    RECLO_TRY_WITH(deadline.sleep_for(kPollInterval),
                   fmt::format("instance {} is still {}", id.text(), found->state));
  }
}

Status terminate_all(FailoverBench& bench) {
  RECLO_ASSIGN_OR_RETURN(auto found, all_instances(bench));
  const bool may_be_lost = bench.record.instance.empty() && has_open_launch(bench.record);
  for (int looks = 1; found.empty() && may_be_lost && looks < kLooksForLost; ++looks) {
    RECLO_TRY(bench.cancel.sleep_for(kPollInterval));
    RECLO_ASSIGN_OR_RETURN(found, all_instances(bench));
  }
  for (const cloud::Instance& instance : found)
    RECLO_TRY(bench.cloud.ec2->terminate_instance(instance.id, bench.cancel));
  for (const cloud::Instance& instance : found)
    RECLO_TRY(await_states(bench, instance.id, "terminated", "terminating"));
  return {};
}

Status remove_all(FailoverBench& bench) {
  bench.record.state = FailoverState::kDeleting;
  RECLO_TRY(bench.save());
  RECLO_KILL_POINT("failover.deleting");
  RECLO_TRY(terminate_all(bench));
  RECLO_KILL_POINT("failover.terminated");
  RECLO_TRY(remove_image(bench));
  RECLO_KILL_POINT("failover.snapshots_removed");
  RECLO_TRY(remove_group(bench));
  RECLO_KILL_POINT("failover.group_removed");
  return bench.store.remove(bench.record);
}

Status stop_all(FailoverBench& bench, bool force) {
  Ec2Instance& record = bench.record;
  RECLO_ASSIGN_OR_RETURN(const auto found, all_instances(bench));
  for (const cloud::Instance& instance : found) {
    if (instance.state != "stopped")
      RECLO_TRY(bench.cloud.ec2->stop_instance(instance.id, bench.cancel, force));
    RECLO_TRY(await_states(bench, instance.id, "stopped", "stopping"));
    RECLO_ASSIGN_OR_RETURN(const auto now, bench.cloud.ec2->instance(instance.id, bench.cancel));
    note_instance(record, now);
  }
  if (found.empty())
    return Error(Code::kNotFound,
                 fmt::format("instance {} has nothing in EC2 that could be stopped; `reclo stop {} "
                             "--delete` removes what was made for it",
                             record.id, record.id));
  record.state = FailoverState::kStopped;
  record.problem.clear();
  return bench.save();
}

}  // namespace

Status stop_failover(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                     const std::string& id, const StopEc2Options& options,
                     const ImportTools* import, ProgressSink& progress, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const os::FileLock lock, store.lock(id));
  RECLO_ASSIGN_OR_RETURN(Ec2Instance record, store.load(id));
  std::vector<std::string> warnings;
  const PreparePoint none;
  FailoverBench bench{store, record, cloud, nullptr, none, import, progress, cancel, warnings};
  const Status done = options.remove ? remove_all(bench) : stop_all(bench, options.force);
  for (const std::string& warning : warnings) log_warning("{}", warning);
  if (done.ok()) return {};
  return Error(done.error()).with("instance " + id);
}

Result<std::vector<SeenInstance>> see_instances(const Ec2InstanceStore& store,
                                                const OpenCloud& open_cloud,
                                                std::chrono::milliseconds patience,
                                                const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(auto records, store.list());
  std::map<CloudAddress, std::vector<std::string>> asked_of;
  for (const Ec2Instance& record : records)
    if (!record.instance.empty()) asked_of[record.cloud].push_back(record.instance.text());
  std::map<std::string, cloud::Instance> known;
  std::map<CloudAddress, bool> answered;
  for (const auto& [address, ids] : asked_of) {
    const CancelToken limit = cancel.with_timeout(patience);
    const auto cloud = open_cloud(address);
    if (!cloud.ok()) continue;
    const auto found = cloud->ec2->instances({{"instance-id", ids}}, limit);
    RECLO_TRY(cancel.check());
    if (!found.ok()) {
      log_info("{}", found.error().message());
      continue;
    }
    answered[address] = true;
    for (const cloud::Instance& instance : *found) known.emplace(instance.id.text(), instance);
  }
  std::vector<SeenInstance> out;
  for (Ec2Instance& record : records) {
    const bool asked = !record.instance.empty() && answered[record.cloud];
    const auto found = known.find(record.instance.text());
    if (asked && found != known.end())
      note_instance(record, found->second);
    else if (asked)
      record.ec2_state = "terminated";
    out.push_back({std::move(record), asked});
  }
  return out;
}

}  // namespace reclo::recovery
