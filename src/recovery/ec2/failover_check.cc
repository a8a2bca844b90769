#include "recovery/ec2/failover_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "recovery/ec2/failover_plan.h"

namespace reclo::recovery {
namespace {

Status check_image(const cloud::Cloud& cloud, const StandbyRecord& record, FailoverCheck& out,
                   const CancelToken& cancel) {
  if (!record.current) {
    out.warnings.push_back("there is no finished standby: a failover would have to put all blocks");
    return {};
  }
  const std::string& image = record.current->image.text();
  RECLO_ASSIGN_OR_RETURN(const auto found, cloud.ec2->images({{"image-id", {image}}}, cancel));
  out.image_available = !found.empty() && found.front().state == "available";
  if (!out.image_available)
    out.warnings.push_back(fmt::format(
        "the standby's image {} is not there any more in {}: refresh it", image, cloud.region));
  return {};
}

// vCPUs that running on-demand instances of the standard families use now.
Result<uint32_t> used_vcpus(const cloud::Cloud& cloud, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(
      const auto running,
      cloud.ec2->instances({{"instance-state-name", {"pending", "running"}}}, cancel));
  std::map<std::string, uint32_t> counts;
  for (const cloud::Instance& instance : running)
    if (instance.on_demand && cloud::is_standard_type(instance.type)) ++counts[instance.type];
  if (counts.empty()) return uint32_t{0};
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) names.push_back(name);
  RECLO_ASSIGN_OR_RETURN(const auto types, cloud.ec2->instance_types(names, cancel));
  uint32_t used = 0;
  for (const cloud::InstanceType& type : types) used += type.vcpus * counts[type.name];
  return used;
}

Status find_needed(const cloud::Cloud& cloud, const std::vector<std::string>& wanted,
                   FailoverCheck& out, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const auto types, cloud.ec2->instance_types(wanted, cancel));
  for (const cloud::InstanceType& type : types) {
    if (!cloud::is_standard_type(type.name) || type.vcpus <= out.needed_vcpus) continue;
    out.needed_vcpus = type.vcpus;
    out.instance_type = type.name;
  }
  if (types.empty())
    out.warnings.push_back(
        fmt::format("{} has none of the instance types {}", cloud.region, fmt::join(wanted, ", ")));
  return {};
}

}  // namespace

Result<FailoverCheck> check_failover(const cloud::Cloud& cloud, const StandbyRecord& record,
                                     const std::vector<std::string>& types,
                                     const CancelToken& cancel) {
  FailoverCheck out;
  RECLO_TRY(check_image(cloud, record, out, cancel));
  RECLO_TRY(find_needed(cloud, types.empty() ? default_instance_types() : types, out, cancel));
  RECLO_ASSIGN_OR_RETURN(out.used_vcpus, used_vcpus(cloud, cancel));
  const auto quota = cloud.quotas->quota("ec2", cloud::kStandardVcpusQuota, cancel);
  if (!quota.ok()) {
    RECLO_TRY(cancel.check());
    out.warnings.push_back("the quota of vCPUs could not be asked for: " + quota.error().message());
    return out;
  }
  out.quota_vcpus = *quota;
  if (out.used_vcpus + out.needed_vcpus > out.quota_vcpus)
    out.warnings.push_back(fmt::format(
        "the quota of {} vCPUs for on-demand instances ({}) does not do: {} are used and {} needs "
        "{}. Have it raised now, in Service Quotas: that takes hours to days",
        out.quota_vcpus, cloud::kStandardVcpusQuota, out.used_vcpus, out.instance_type,
        out.needed_vcpus));
  return out;
}

}  // namespace reclo::recovery
