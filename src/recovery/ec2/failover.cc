#include "recovery/ec2/failover.h"

#include "base/kill_point.h"
#include "recovery/ec2/failover_image.h"
#include "recovery/ec2/failover_launch.h"
#include "recovery/ec2/failover_network.h"

namespace reclo::recovery {
namespace {

int64_t unix_ms(WallTime time) { return time.time_since_epoch().count(); }

// Runs a step and notes how long it took; a step that failed is noted by the run that does it.
template <class Step>
Status timed(FailoverBench& bench, const char* name, const Step& step) {
  const int64_t started_ms = unix_ms(wall_now());
  RECLO_TRY(step());
  std::vector<StepRecord>& steps = bench.record.steps;
  steps.push_back({name, bench.record.run, started_ms, unix_ms(wall_now())});
  if (steps.size() > kStepsKeptMax) steps.erase(steps.begin());
  return bench.save();
}

bool is_same(const Ec2Instance& record, const FailoverOrder& order) {
  return record.repository == order.repository && record.machine == order.machine &&
         record.point == order.point && record.name == order.name &&
         record.request.drill == order.request.drill && record.cloud.region == order.cloud.region;
}

bool may_change(const Ec2Instance& record) {
  return record.instance.empty() && !has_open_launch(record);
}

struct Found {
  Ec2Instance record;
  bool is_new = false;
  os::FileLock lock;
};

// The failover that this order is, made when there is none.
Result<Found> find_or_create(const Ec2InstanceStore& store, const FailoverOrder& order,
                             std::vector<std::string>& warnings, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const os::FileLock planning, store.plan_lock(cancel));
  RECLO_ASSIGN_OR_RETURN(const auto all, store.list());
  for (const Ec2Instance& known : all) {
    if (!is_same(known, order)) {
      if (order.name.empty() || known.name != order.name) continue;
      return Error(Code::kConflict,
                   fmt::format("instance {} has the name '{}' already, for another recovery point, "
                               "region or purpose; stop it with --delete or choose another name",
                               known.id, known.name));
    }
    RECLO_ASSIGN_OR_RETURN(os::FileLock lock, store.lock(known.id));
    RECLO_ASSIGN_OR_RETURN(Ec2Instance record, store.load(known.id));
    if (record.state == FailoverState::kDeleting)
      return Error(
          Code::kConflict,
          fmt::format("instance {} of this point is being deleted: finish that with `reclo "
                      "stop {} --delete`",
                      record.id, record.id));
    if (may_change(record)) {
      record.request = order.request;
      record.cloud = order.cloud;
    } else if (record.request != order.request) {
      warnings.push_back(fmt::format(
          "instance {} goes on as it was first asked for; for another one give another --name",
          record.id));
    }
    return Found{std::move(record), false, std::move(lock)};
  }
  Ec2Instance record;
  record.name = order.name;
  record.server = order.server;
  record.repository = order.repository;
  record.machine = order.machine;
  record.point = order.point;
  record.point_time = order.point_time;
  record.created_at = wall_now();
  record.request = order.request;
  record.cloud = order.cloud;
  record.source = order.source;
  record.rpo_ms = (record.created_at - record.point_time).count();
  RECLO_TRY(store.create(record));
  RECLO_ASSIGN_OR_RETURN(os::FileLock lock, store.lock(record.id));
  RECLO_KILL_POINT("failover.planned");
  return Found{std::move(record), true, std::move(lock)};
}

// A clone that runs beside another one of the same server is a split brain in the making.
Status warn_of_others(FailoverBench& bench) {
  if (bench.record.request.drill) return {};
  RECLO_ASSIGN_OR_RETURN(
      const auto others,
      bench.cloud.ec2->instances({{"tag:reclo-machine", {bench.record.machine.hex()}},
                                  {"tag:reclo-role", {"failover"}},
                                  {"instance-state-name", {"pending", "running"}}},
                                 bench.cancel));
  for (const cloud::Instance& other : others) {
    const auto tag = other.tags.find(kInstanceTag);
    if (tag != other.tags.end() && tag->second == bench.record.id) continue;
    bench.warnings.push_back(fmt::format("another failover of '{}' runs already: {}",
                                         bench.record.server, other.id.text()));
  }
  return {};
}

// `asked_only` tells, when it fails, that nothing was made yet.
Status take_steps(FailoverBench& bench, bool& asked_only) {
  Ec2Instance& record = bench.record;
  ++record.run;
  FailoverPlan plan;
  RECLO_TRY(timed(bench, "checks", [&]() -> Status {
    RECLO_ASSIGN_OR_RETURN(plan, plan_failover(bench));
    return warn_of_others(bench);
  }));
  asked_only = false;
  RECLO_TRY(timed(bench, "image", [&] { return ensure_image(bench); }));
  if (may_change(record))
    RECLO_TRY(timed(bench, "network", [&] { return ensure_group(bench, plan.vpc); }));
  RECLO_TRY(timed(bench, "instance", [&] { return ensure_running(bench, plan); }));
  if (!record.request.wait_for.empty()) {
    RECLO_TRY(timed(bench, "answer", [&] { return await_answer(bench); }));
    record.state = FailoverState::kAnswering;
  }
  if (!record.rto_ms) record.rto_ms = (wall_now() - record.created_at).count();
  record.problem.clear();
  RECLO_TRY(bench.save());
  RECLO_KILL_POINT("failover.done");
  return {};
}

// A new failover that was refused before anything was made leaves no record.
Error note_problem(FailoverBench& bench, bool forget, Error error) {
  static constexpr const char* kWhy = "the failure before it is the one to report";
  Ec2Instance& record = bench.record;
  if (forget) {
    ignore_error(bench.store.remove(record), kWhy);
    return error;
  }
  record.problem = error.message();
  ignore_error(bench.save(), kWhy);
  return std::move(error).with(fmt::format(
      "instance {} (the same command goes on with it, `reclo stop {} --delete` removes it)",
      record.id, record.id));
}

Result<FailoverResult> run(const Ec2InstanceStore& store, const cloud::Cloud& cloud, Found found,
                           const FailoverInputs& inputs, std::vector<std::string> warnings,
                           ProgressSink& progress, const CancelToken& cancel) {
  FailoverResult result;
  result.was_running = found.record.rto_ms.has_value();
  const std::string admission = admission_note(found.record.request);
  if (!admission.empty()) warnings.push_back(admission);
  progress.note(fmt::format("instance {}", found.record.id));
  FailoverBench bench{store,         found.record, cloud,  inputs.source, inputs.prepare,
                      inputs.import, progress,     cancel, warnings};
  bool asked_only = true;
  Status done = take_steps(bench, asked_only);
  if (!done.ok()) return note_problem(bench, found.is_new && asked_only, std::move(done).error());
  result.answered = found.record.state == FailoverState::kAnswering;
  result.record = std::move(found.record);
  result.warnings = std::move(warnings);
  return result;
}

}  // namespace

Result<FailoverResult> fail_over(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                                 const FailoverOrder& order, const FailoverInputs& inputs,
                                 ProgressSink& progress, const CancelToken& cancel) {
  if (!order.request.wait_for.empty()) RECLO_TRY(check_wait_target(order.request.wait_for));
  if (!order.request.operator_cidr.empty()) RECLO_TRY(check_cidr(order.request.operator_cidr));
  std::vector<std::string> warnings;
  RECLO_ASSIGN_OR_RETURN(Found found, find_or_create(store, order, warnings, cancel));
  return run(store, cloud, std::move(found), inputs, std::move(warnings), progress, cancel);
}

Result<FailoverResult> resume_failover(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                                       const std::string& id, const FailoverInputs& inputs,
                                       ProgressSink& progress, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(os::FileLock lock, store.lock(id));
  RECLO_ASSIGN_OR_RETURN(Ec2Instance record, store.load(id));
  if (record.state == FailoverState::kDeleting)
    return Error(Code::kConflict, fmt::format("instance {} is being deleted: finish that with "
                                              "`reclo stop {} --delete`",
                                              id, id));
  return run(store, cloud, Found{std::move(record), false, std::move(lock)}, inputs, {}, progress,
             cancel);
}

bool needs_recovery_point(const Ec2Instance& record) { return record.image.empty(); }

}  // namespace reclo::recovery
