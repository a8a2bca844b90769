// Who reaches a server that was failed over, and whom it reaches: the security group. One thread.
#pragma once

#include "recovery/ec2/failover_bench.h"

namespace reclo::recovery {

/// The groups to start with: those given, or one made for this instance, which admits the VPN (UDP
/// 51820) and the operator's range, or for a drill the operator's range only, and lets nothing out.
/// A drill is isolated before it starts, and that is looked at, not believed.
Status ensure_group(FailoverBench& bench, const cloud::VpcId& vpc);
/// Its members must be gone; EC2 needs a while to see that.
Status remove_group(FailoverBench& bench);

/// What a user should know about who is let in; empty when nothing.
std::string admission_note(const FailoverRequest& request);

}  // namespace reclo::recovery
