// Failing over to EC2: from a recovery point to one running instance, whatever is interrupted.
//
//   planned ─▶ image_ready ─▶ network_ready ─▶ launched ─▶ running ─▶ answering
//      │           │               │              │           │           │
//      └───────────┴───────── stop --delete ──────┴─────┬─────┴── stop ───┤
//                                                       ▼                 ▼
//                             (gone) ◀─ deleting ◀──────┴───────────── stopped ─ resume ─▶ running
//
// Each arrow is an act in the cloud. The order of writes makes each safe to repeat: what is about
// to be asked for is in ec2.json (or follows from it: names, tags and client tokens come from the
// instance's id) ─▶ the act ─▶ its answer is noted. Killed between act and note, the next run asks
// the same under the same token or name, or finds what was made by its tag. The steps:
// failover_plan.h (asks only), failover_image.h, failover_network.h, failover_launch.h.
//
// The same point under the same name (or none) is the same failover: running the command again goes
// on with it, and never makes a second instance. What was asked may change until an instance, or
// the question for one, exists.
// One thread for each instance, whose lock is held meanwhile.
#pragma once

#include <memory>

#include "recovery/ec2/failover_bench.h"

namespace reclo::recovery {

/// Identity and wishes; the rest of the record is ours. See Ec2Instance.
struct FailoverOrder {
  std::string name;
  std::string server;
  std::string repository;
  MachineId machine;
  PointId point;
  WallTime point_time{};
  FailoverRequest request;
  CloudAddress cloud;
  std::map<std::string, std::string> source;
};

struct FailoverInputs {
  StandbySource* source = nullptr;  // needed unless the image is there (needs_recovery_point())
  const ImportTools* import = nullptr;
  PreparePoint prepare;  // what is put cold; empty: as it is
};

struct FailoverResult {
  Ec2Instance record;
  bool answered = false;
  bool was_running = false;  // an earlier run had finished it
  std::vector<std::string> warnings;
};

/// Errors: those of plan_failover(), ensure_running(), await_answer(); kConflict while another
/// command works on it, or when the name is another point's. Each names the instance when something
/// was made that `stop --delete` would remove.
Result<FailoverResult> fail_over(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                                 const FailoverOrder& order, const FailoverInputs& inputs,
                                 ProgressSink& progress, const CancelToken& cancel);

/// Goes on with an instance by its id: unfinished, stopped, or running.
Result<FailoverResult> resume_failover(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                                       const std::string& id, const FailoverInputs& inputs,
                                       ProgressSink& progress, const CancelToken& cancel);
bool needs_recovery_point(const Ec2Instance& record);

struct StopEc2Options {
  bool force = false;   // the guest is not asked to shut down
  bool remove = false;  // terminate, and remove all that was made for it; never a standby
};
/// Success when it is stopped or gone already. `import` may be null.
Status stop_failover(const Ec2InstanceStore& store, const cloud::Cloud& cloud,
                     const std::string& id, const StopEc2Options& options,
                     const ImportTools* import, ProgressSink& progress, const CancelToken& cancel);

/// The records with what EC2 says now, as far as it can be asked within `patience`; `asked` tells
/// for which. Changes no record.
struct SeenInstance {
  Ec2Instance record;
  bool asked = false;
};
using OpenCloud = std::function<Result<cloud::Cloud>(const CloudAddress&)>;
Result<std::vector<SeenInstance>> see_instances(const Ec2InstanceStore& store,
                                                const OpenCloud& open_cloud,
                                                std::chrono::milliseconds patience,
                                                const CancelToken& cancel);

}  // namespace reclo::recovery
