// The instance of a failover: started once, whatever is interrupted.
//
//   launch noted (number, type, zone, everything that is asked) ─▶ RunInstances with that launch's
//   client token ─▶ id noted ─▶ pending ─▶ running
//
// The answer may get lost at any arrow. The next run first looks for an instance with this
// failover's tag, then asks the same again under the same token, which gives the same instance. A
// refusal is noted in the launch; only then is another type or zone asked for, under another token.
// One thread.
#pragma once

#include "recovery/ec2/failover_plan.h"

namespace reclo::recovery {

/// Until one instance runs. Errors: kResourceExhausted when no type has room in any zone (each
/// refusal named), kIo when it ended while starting.
Status ensure_running(FailoverBench& bench, const FailoverPlan& plan);
/// record.wait_for at the instance's public address, else its private one. Errors: kTimeout; kIo
/// when the instance ended meanwhile.
Status await_answer(FailoverBench& bench);
/// Whether a RunInstances is under way of which nobody knows what became.
bool has_open_launch(const Ec2Instance& record);
/// Takes what EC2 says of the instance into the record.
void note_instance(Ec2Instance& record, const cloud::Instance& instance);
/// The instances made for this failover that are not gone: at most one unless EC2 was lied to.
Result<std::vector<cloud::Instance>> find_instances(const FailoverBench& bench);

/// "tcp:PORT" and "http:PORT/PATH" of `text` at `address`; addresses that are given stay. Errors:
/// kInvalidArgument.
Result<WaitTarget> wait_target_at(const std::string& text, const std::string& address);

}  // namespace reclo::recovery
