#include "recovery/ec2/failover_plan.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "disk/boot_layout.h"

namespace reclo::recovery {
namespace {

constexpr const char* kArchitecture = "x86_64";

bool holds(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// The image of a standby that holds the point: the one this machine knows of, else any that is
// tagged so. Another machine may have made it, and the one that failed often did.
Result<std::optional<cloud::Image>> find_standby(const FailoverBench& bench) {
  const Ec2Instance& record = bench.record;
  RECLO_ASSIGN_OR_RETURN(auto images,
                         bench.cloud.ec2->images({{"tag:reclo-repository", {record.repository}},
                                                  {"tag:reclo-machine", {record.machine.hex()}},
                                                  {"tag:reclo-point", {record.point.hex()}},
                                                  {"tag:reclo-role", {"standby"}},
                                                  {"state", {"available"}}},
                                                 bench.cancel));
  std::erase_if(images, [](const cloud::Image& image) { return image.disks.empty(); });
  if (images.empty()) return std::optional<cloud::Image>();
  std::sort(images.begin(), images.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return std::optional(images.front());
}

Error no_standby(const FailoverBench& bench, const std::optional<StandbyRecord>& known) {
  const Ec2Instance& record = bench.record;
  std::string why = fmt::format("no standby of '{}' in {} holds recovery point {}", record.server,
                                bench.cloud.region, record.point.short_hex());
  if (known && known->region != bench.cloud.region)
    why += fmt::format(" (this machine keeps one in {}: give --region {})", known->region,
                       known->region);
  else if (known && known->current)
    why += fmt::format(" (it holds {})", known->current->point.short_hex());
  return Error(Code::kNotFound,
               fmt::format("{}: make one with `reclo standby refresh --server {}`, or let this "
                           "recovery put all blocks with --via cold",
                           why, record.server));
}

// Refuses a disk that no firmware could start, before it costs minutes.
Status find_boot_mode(FailoverBench& bench) {
  if (bench.source == nullptr)
    return Error(Code::kInvalidArgument,
                 "the image has to be made of the recovery point: run `reclo recover` again with "
                 "the repository");
  disk::Readable first;
  const std::vector<uint64_t> sizes = bench.source->disk_sizes_bytes();
  if (sizes.empty()) return Error(Code::kInvalidArgument, "the recovery point has no disk");
  first.size_bytes = sizes.front();
  first.read_at = [&](uint64_t offset, MutableByteSpan out) {
    return bench.source->read(0, offset, out, bench.cancel);
  };
  RECLO_ASSIGN_OR_RETURN(const disk::BootLayout layout, disk::find_boot_layout(first));
  if (!layout.bios_bootable && !layout.uefi_bootable)
    return Error(Code::kUnsupported,
                 fmt::format("the first disk of '{}' has no boot loader (no boot code in its first "
                             "sector, no EFI system partition): EC2 could not start it",
                             bench.record.server));
  bench.record.boot_mode = layout.needs_uefi() ? cloud::BootMode::kUefi : cloud::BootMode::kBios;
  return {};
}

Status use_standby(FailoverBench& bench, const cloud::Image& image) {
  Ec2Instance& record = bench.record;
  record.via = FailoverVia::kStandby;
  record.image = image.id;
  record.boot_mode = image.boot_mode == "uefi" ? cloud::BootMode::kUefi : cloud::BootMode::kBios;
  record.image_disks.clear();
  for (const cloud::DiskMapping& disk : image.disks)
    record.image_disks.push_back({disk.device_name, disk.snapshot});
  return {};
}

Status make_own_image(FailoverBench& bench, FailoverVia via) {
  Ec2Instance& record = bench.record;
  RECLO_TRY(find_boot_mode(bench));
  record.via = via;
  if (via == FailoverVia::kImport && record.request.import_bucket.empty())
    return Error(Code::kInvalidArgument,
                 "importing goes through a bucket in the same region: give --import-bucket");
  if (!record.disks.empty()) return {};  // an earlier run has begun
  const std::vector<uint64_t> sizes = bench.source->disk_sizes_bytes();
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    if (volume_size_gib(sizes[i]) > cloud::kEbsVolumeGibMax)
      return Error(Code::kUnsupported, fmt::format("disk {} has {}: an EBS volume holds 64 TiB", i,
                                                   format_bytes(sizes[i])));
    FailoverDisk disk;
    disk.index = i;
    disk.size_bytes = sizes[i];
    record.disks.push_back(std::move(disk));
  }
  return {};
}

Status choose_image(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  if (!record.image.empty()) {
    RECLO_ASSIGN_OR_RETURN(
        const auto images,
        bench.cloud.ec2->images({{"image-id", {record.image.text()}}}, bench.cancel));
    if (!images.empty() || !record.instance.empty()) return {};
    bench.warnings.push_back(fmt::format("image {} is gone: choosing anew", record.image.text()));
    record.image = {};
  }
  const FailoverVia wanted = record.request.via;
  if (record.owns_image())  // begun: goes on as it began
    return make_own_image(bench, record.via);
  if (wanted == FailoverVia::kAuto || wanted == FailoverVia::kStandby) {
    RECLO_ASSIGN_OR_RETURN(const auto image, find_standby(bench));
    if (image) return use_standby(bench, *image);
    RECLO_ASSIGN_OR_RETURN(const auto known, load_standby(bench.store.state_directory(),
                                                          record.repository, record.machine));
    const Error missing = no_standby(bench, known);
    if (wanted == FailoverVia::kStandby) return missing;
    bench.warnings.push_back(fmt::format(
        "no standby in {} holds recovery point {}{}: all of its blocks are put now",
        bench.cloud.region, record.point.short_hex(),
        known && known->region != bench.cloud.region ? " (there is one in " + known->region + ")"
                                                     : ""));
  }
  return make_own_image(bench,
                        wanted == FailoverVia::kImport ? FailoverVia::kImport : FailoverVia::kCold);
}

// Types that can run the image. Of the default ones, those that the region has.
Result<std::vector<std::string>> usable_types(const FailoverBench& bench) {
  const Ec2Instance& record = bench.record;
  const bool given = !record.request.instance_types.empty();
  const std::vector<std::string> wanted =
      given ? record.request.instance_types : default_instance_types();
  RECLO_ASSIGN_OR_RETURN(const auto known, bench.cloud.ec2->instance_types(wanted, bench.cancel));
  const std::string_view boot = record.boot_mode == cloud::BootMode::kUefi ? "uefi" : "legacy-bios";
  std::vector<std::string> out;
  for (const std::string& name : wanted) {
    const auto type =
        std::find_if(known.begin(), known.end(), [&](const auto& one) { return one.name == name; });
    std::string why;
    if (type == known.end())
      why = fmt::format("{} has no instance type '{}'", bench.cloud.region, name);
    else if (!type->architectures.empty() && !holds(type->architectures, kArchitecture))
      why = fmt::format("{} is not for {}", name, kArchitecture);
    else if (!type->boot_modes.empty() && !holds(type->boot_modes, boot))
      why = fmt::format("{} cannot boot by {}", name, boot);
    if (why.empty())
      out.push_back(name);
    else if (given)
      return Error(Code::kInvalidArgument, why + ": give another --instance-type");
  }
  if (out.empty())
    return Error(Code::kInvalidArgument, fmt::format("{} has none of {}: give --instance-type",
                                                     bench.cloud.region, fmt::join(wanted, ", ")));
  return out;
}

Result<std::vector<cloud::Subnet>> usable_subnets(const FailoverBench& bench) {
  const FailoverRequest& request = bench.record.request;
  if (request.subnet) {
    auto subnet = bench.cloud.ec2->subnet(*request.subnet, bench.cancel);
    if (!subnet.ok() && subnet.error().code() == Code::kNotFound)
      return Error(Code::kNotFound,
                   fmt::format("there is no subnet {} in {}: check --subnet and --region",
                               request.subnet->text(), bench.cloud.region));
    RECLO_TRY(subnet);
    return std::vector{*subnet};
  }
  RECLO_ASSIGN_OR_RETURN(
      auto subnets, bench.cloud.ec2->subnets(
                        {{"default-for-az", {"true"}}, {"state", {"available"}}}, bench.cancel));
  if (subnets.empty())
    return Error(Code::kNotFound,
                 fmt::format("{} has no default VPC with subnets: give --subnet (or make one with "
                             "`aws ec2 create-default-vpc`)",
                             bench.cloud.region));
  std::sort(subnets.begin(), subnets.end(),
            [](const auto& a, const auto& b) { return a.zone < b.zone; });
  // One VPC: a security group belongs to one.
  std::erase_if(subnets, [&](const auto& one) { return one.vpc != subnets.front().vpc; });
  return subnets;
}

Status fit_private_ip(const FailoverBench& bench, std::vector<cloud::Subnet>& subnets) {
  const std::string& address = bench.record.request.private_ip;
  if (address.empty()) return {};
  std::vector<std::string> ranges;
  for (const cloud::Subnet& subnet : subnets)
    ranges.push_back(fmt::format("{} ({})", subnet.cidr, subnet.id.text()));
  std::erase_if(subnets, [&](const auto& one) { return !is_inside_cidr(address, one.cidr); });
  if (!subnets.empty()) return {};
  return Error(Code::kInvalidArgument,
               fmt::format("the private address {} is in none of the subnets' ranges: {}", address,
                           fmt::join(ranges, ", ")));
}

Status check_given_groups(FailoverBench& bench, const cloud::VpcId& vpc) {
  const FailoverRequest& request = bench.record.request;
  if (request.security_groups.empty()) return {};
  std::vector<std::string> ids;
  for (const auto& id : request.security_groups) ids.push_back(id.text());
  RECLO_ASSIGN_OR_RETURN(const auto groups,
                         bench.cloud.ec2->security_groups({{"group-id", ids}}, bench.cancel));
  for (const auto& id : request.security_groups) {
    const auto group =
        std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.id == id; });
    if (group == groups.end() || group->vpc != vpc)
      return Error(Code::kNotFound, fmt::format("there is no security group {} in {} of {}",
                                                id.text(), vpc.text(), bench.cloud.region));
    if (request.drill && group->egress_rules > 0)
      return Error(Code::kInvalidArgument,
                   fmt::format("security group {} lets its members out: a drill's copy would reach "
                               "what the real server talks to. Leave --security-group away, or "
                               "give one without egress rules",
                               id.text()));
  }
  return {};
}

}  // namespace

std::vector<std::string> default_instance_types() { return {"m7i.large", "m6i.large", "t3.large"}; }

Status check_cidr(const std::string& cidr) {
  const size_t slash = cidr.find('/');
  in_addr address{};
  unsigned bits = 99;
  if (slash != std::string::npos) {
    const char* end = cidr.data() + cidr.size();
    const auto parsed = std::from_chars(cidr.data() + slash + 1, end, bits);
    if (parsed.ec != std::errc() || parsed.ptr != end) bits = 99;
  }
  if (bits <= 32 && ::inet_pton(AF_INET, cidr.substr(0, slash).c_str(), &address) == 1) return {};
  return Error(Code::kInvalidArgument,
               fmt::format("'{}' is no range of IPv4 addresses (203.0.113.7/32)", cidr));
}

bool is_inside_cidr(const std::string& address, const std::string& cidr) {
  in_addr one{};
  in_addr base{};
  const size_t slash = cidr.find('/');
  if (!check_cidr(cidr).ok() || ::inet_pton(AF_INET, address.c_str(), &one) != 1 ||
      ::inet_pton(AF_INET, cidr.substr(0, slash).c_str(), &base) != 1)
    return false;
  unsigned bits = 0;
  std::from_chars(cidr.data() + slash + 1, cidr.data() + cidr.size(), bits);
  const uint32_t mask = bits == 0 ? 0 : ~uint32_t{0} << (32 - bits);
  return (ntohl(one.s_addr) & mask) == (ntohl(base.s_addr) & mask);
}

Result<FailoverPlan> plan_failover(FailoverBench& bench) {
  RECLO_TRY(choose_image(bench));
  RECLO_ASSIGN_OR_RETURN(const std::vector<std::string> types, usable_types(bench));
  RECLO_ASSIGN_OR_RETURN(std::vector<cloud::Subnet> subnets, usable_subnets(bench));
  RECLO_TRY(fit_private_ip(bench, subnets));
  FailoverPlan plan;
  plan.vpc = subnets.front().vpc;
  RECLO_TRY(check_given_groups(bench, plan.vpc));
  for (const cloud::Subnet& subnet : subnets)
    for (const std::string& type : types) plan.candidates.push_back({type, subnet.id, subnet.zone});
  return plan;
}

}  // namespace reclo::recovery
