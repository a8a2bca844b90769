#include <fmt/format.h>

#include <algorithm>

#include "base/encoding.h"
#include "cloud/ec2_client.h"
#include "cloud/ec2_parameters.h"

namespace reclo::cloud {
namespace {

constexpr size_t kUserDataSizeMax = 16 * 1024;  // EC2's limit, before base64

Result<Instance> parse_instance(const pugi::xml_node& item) {
  Instance out;
  RECLO_ASSIGN_OR_RETURN(const std::string id, xml_required(item, "instanceId"));
  RECLO_ASSIGN_OR_RETURN(out.id, InstanceId::parse(id));
  RECLO_ASSIGN_OR_RETURN(out.state, xml_required(item.child("instanceState"), "name"));
  out.state_reason = xml_text(item.child("stateReason"), "message");
  out.type = xml_text(item, "instanceType");
  out.zone = xml_text(item.child("placement"), "availabilityZone");
  out.private_ip = xml_text(item, "privateIpAddress");
  out.public_ip = xml_text(item, "ipAddress");
  out.on_demand = xml_text(item, "instanceLifecycle").empty();
  if (const std::string vpc = xml_text(item, "vpcId"); !vpc.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.vpc, VpcId::parse(vpc));
  }
  if (const std::string image = xml_text(item, "imageId"); !image.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.image, ImageId::parse(image));
  }
  for (const pugi::xml_node node : item.child("blockDeviceMapping").children("item")) {
    const std::string volume = xml_text(node.child("ebs"), "volumeId");
    if (volume.empty()) continue;
    RECLO_ASSIGN_OR_RETURN(VolumeId volume_id, VolumeId::parse(volume));
    out.volumes.emplace(xml_text(node, "deviceName"), std::move(volume_id));
  }
  out.tags = parse_tags(item);
  return out;
}

std::vector<std::string> texts_of(const pugi::xml_node& list) {
  std::vector<std::string> out;
  for (const pugi::xml_node item : list.children("item")) out.emplace_back(item.text().get());
  return out;
}

Result<InstanceType> parse_instance_type(const pugi::xml_node& item) {
  InstanceType out;
  RECLO_ASSIGN_OR_RETURN(out.name, xml_required(item, "instanceType"));
  RECLO_ASSIGN_OR_RETURN(const uint64_t vcpus, xml_number(item.child("vCpuInfo"), "defaultVCpus"));
  out.vcpus = static_cast<uint32_t>(std::min<uint64_t>(vcpus, UINT32_MAX));
  RECLO_ASSIGN_OR_RETURN(out.memory_mib, xml_number(item.child("memoryInfo"), "sizeInMiB"));
  out.architectures = texts_of(item.child("processorInfo").child("supportedArchitectures"));
  out.boot_modes = texts_of(item.child("supportedBootModes"));
  return out;
}

net::QueryPairs run_parameters(const RunInstance& wanted) {
  net::QueryPairs out{{"ImageId", wanted.image.text()},
                      {"InstanceType", wanted.instance_type},
                      {"MinCount", "1"},
                      {"MaxCount", "1"},
                      {"ClientToken", wanted.client_token},
                      {"MetadataOptions.HttpTokens", "required"},
                      {"InstanceInitiatedShutdownBehavior", "stop"}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) out.emplace_back(name, value);
  };
  if (wanted.subnet) add("SubnetId", wanted.subnet->text());
  for (size_t i = 0; i < wanted.security_groups.size(); ++i)
    out.emplace_back(fmt::format("SecurityGroupId.{}", i + 1), wanted.security_groups[i].text());
  add("KeyName", wanted.key_name);
  add("PrivateIpAddress", wanted.private_ip);
  add("UserData", to_base64(as_bytes(wanted.user_data)));
  add("IamInstanceProfile.Name", wanted.instance_profile);
  if (wanted.nested_virtualization) add("CpuOptions.NestedVirtualization", "enabled");
  add_disks(out, wanted.disks);
  add_tags(out, wanted.tags, {"instance", "volume"});
  return out;
}

}  // namespace

Result<Instance> Ec2Client::run_instance(const RunInstance& wanted, const CancelToken& cancel) {
  if (wanted.client_token.empty())
    return Error(Code::kInternal, "an instance is never started without a client token");
  if (wanted.user_data.size() > kUserDataSizeMax)
    return Error(Code::kInvalidArgument, fmt::format("user data has {} bytes, EC2 takes {}",
                                                     wanted.user_data.size(), kUserDataSizeMax));
  RECLO_ASSIGN_OR_RETURN(const Bytes body,
                         client_.call("RunInstances", run_parameters(wanted), cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:RunInstances"));
  const pugi::xml_node item = document->document_element().child("instancesSet").child("item");
  return parse_instance(item);
}

Result<std::vector<Instance>> Ec2Client::instances(const Filters& filters,
                                                   const CancelToken& cancel) {
  net::QueryPairs parameters;
  add_filters(parameters, filters);
  std::vector<Instance> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeInstances", parameters, "reservationSet",
      [&](const pugi::xml_node& reservation) -> Status {
        for (const pugi::xml_node item : reservation.child("instancesSet").children("item")) {
          RECLO_ASSIGN_OR_RETURN(Instance instance, parse_instance(item));
          out.push_back(std::move(instance));
        }
        return {};
      },
      cancel));
  return out;
}

Result<Instance> Ec2Client::instance(const InstanceId& id, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(std::vector<Instance> found,
                         instances({{"instance-id", {id.text()}}}, cancel));
  if (found.empty())
    return Error(Code::kNotFound, fmt::format("there is no instance {}", id.text()));
  return std::move(found.front());
}

Status Ec2Client::stop_instance(const InstanceId& id, const CancelToken& cancel, bool force) {
  net::QueryPairs parameters{{"InstanceId.1", id.text()}};
  if (force) parameters.emplace_back("Force", "true");
  RECLO_TRY(client_.call("StopInstances", parameters, cancel));
  return {};
}

Status Ec2Client::start_instance(const InstanceId& id, const CancelToken& cancel) {
  RECLO_TRY(client_.call("StartInstances", {{"InstanceId.1", id.text()}}, cancel));
  return {};
}

Status Ec2Client::terminate_instance(const InstanceId& id, const CancelToken& cancel) {
  const auto gone = client_.call("TerminateInstances", {{"InstanceId.1", id.text()}}, cancel);
  if (gone.ok() || gone.error().code() == Code::kNotFound) return {};
  return gone.error();
}

Result<std::vector<InstanceType>> Ec2Client::instance_types(const std::vector<std::string>& names,
                                                            const CancelToken& cancel) {
  // Not "InstanceType.1": lists of names exclude a page size just as lists of ids do.
  net::QueryPairs parameters;
  add_filters(parameters, {{"instance-type", names}});
  std::vector<InstanceType> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeInstanceTypes", parameters, "instanceTypeSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(InstanceType type, parse_instance_type(item));
        out.push_back(std::move(type));
        return {};
      },
      cancel));
  return out;
}

Result<std::string> Ec2Client::console_output(const InstanceId& id, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes body,
                         client_.call("GetConsoleOutput", {{"InstanceId", id.text()}}, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:GetConsoleOutput"));
  std::string encoded = xml_text(document->document_element(), "output");
  std::erase_if(encoded, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  RECLO_ASSIGN_OR_RETURN_WITH(const Bytes text, from_base64(encoded), "ec2:GetConsoleOutput");
  return std::string(as_text(text));
}

}  // namespace reclo::cloud
