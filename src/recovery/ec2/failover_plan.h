// What a failover to EC2 is going to do, found out by asking only: nothing is made. Whatever cannot
// work (an unknown type, a missing subnet, a disk that nothing can boot) is an error here, before a
// block is put. One thread.
#pragma once

#include <string>
#include <vector>

#include "recovery/ec2/failover_bench.h"

namespace reclo::recovery {

/// A type in a zone, in the order they are tried: all types of a zone, then the next zone.
struct LaunchCandidate {
  std::string instance_type;
  cloud::SubnetId subnet;
  std::string zone;
};

struct FailoverPlan {
  cloud::VpcId vpc;
  std::vector<LaunchCandidate> candidates;
};

/// Also chooses record.via, and notes a standby's image in the record, when it has no image yet.
/// Errors: kInvalidArgument, kNotFound, kUnsupported, kPermissionDenied, each naming what to
/// change.
Result<FailoverPlan> plan_failover(FailoverBench& bench);

/// The types tried when none is given.
std::vector<std::string> default_instance_types();

/// "203.0.113.7/32", "10.1.0.0/16": IPv4. Errors: kInvalidArgument.
Status check_cidr(const std::string& cidr);
/// Whether an IPv4 address lies in the range; false for what is neither.
bool is_inside_cidr(const std::string& address, const std::string& cidr);

}  // namespace reclo::recovery
