// Whether a failover to EC2 would work, asked before the disaster: is the standby's image still
// there, and would the account's quota of vCPUs do? A failover that meets a quota is none, and
// raising one takes AWS hours to days. Asks only. Any thread.
#pragma once

#include <string>
#include <vector>

#include "cloud/cloud.h"
#include "recovery/ec2/standby_record.h"

namespace reclo::recovery {

struct FailoverCheck {
  bool image_available = false;
  std::string instance_type;  // of the wanted ones, the one that needs the most
  uint32_t needed_vcpus = 0;
  uint32_t used_vcpus = 0;  // by running on-demand instances of the standard families
  double quota_vcpus = 0;
  std::vector<std::string> warnings;  // empty: it would work, as far as can be asked
};

/// `types`: what failover would start; empty: the default ones. Errors: the cloud's; a denied look
/// at the quota is a warning only.
Result<FailoverCheck> check_failover(const cloud::Cloud& cloud, const StandbyRecord& record,
                                     const std::vector<std::string>& types,
                                     const CancelToken& cancel);

}  // namespace reclo::recovery
