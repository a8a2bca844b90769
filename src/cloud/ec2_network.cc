#include <fmt/format.h>

#include "cloud/ec2_client.h"
#include "cloud/ec2_parameters.h"

namespace reclo::cloud {

namespace {

Result<Subnet> parse_subnet(const pugi::xml_node& item) {
  Subnet out;
  RECLO_ASSIGN_OR_RETURN(const std::string id, xml_required(item, "subnetId"));
  RECLO_ASSIGN_OR_RETURN(out.id, SubnetId::parse(id));
  RECLO_ASSIGN_OR_RETURN(const std::string vpc, xml_required(item, "vpcId"));
  RECLO_ASSIGN_OR_RETURN(out.vpc, VpcId::parse(vpc));
  out.zone = xml_text(item, "availabilityZone");
  out.cidr = xml_text(item, "cidrBlock");
  return out;
}

// A rule names at least one address range, list or group, or it is none.
Result<SecurityGroup> parse_group(const pugi::xml_node& item) {
  SecurityGroup out;
  RECLO_ASSIGN_OR_RETURN(const std::string id, xml_required(item, "groupId"));
  RECLO_ASSIGN_OR_RETURN(out.id, SecurityGroupId::parse(id));
  out.name = xml_text(item, "groupName");
  if (const std::string vpc = xml_text(item, "vpcId"); !vpc.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.vpc, VpcId::parse(vpc));
  }
  for (const pugi::xml_node rule : item.child("ipPermissionsEgress").children("item"))
    for (const char* kind : {"ipRanges", "ipv6Ranges", "prefixListIds", "groups"})
      if (rule.child(kind).child("item")) ++out.egress_rules;
  out.tags = parse_tags(item);
  return out;
}

}  // namespace

Result<Subnet> Ec2Client::subnet(const SubnetId& id, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(std::vector<Subnet> found, subnets({{"subnet-id", {id.text()}}}, cancel));
  if (found.empty())
    return Error(Code::kNotFound,
                 fmt::format("there is no subnet {} in {}", id.text(), client_.options().region));
  return std::move(found.front());
}

Result<std::vector<Subnet>> Ec2Client::subnets(const Filters& filters, const CancelToken& cancel) {
  net::QueryPairs parameters;
  add_filters(parameters, filters);
  std::vector<Subnet> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeSubnets", parameters, "subnetSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(Subnet subnet, parse_subnet(item));
        out.push_back(std::move(subnet));
        return {};
      },
      cancel));
  return out;
}

Result<std::vector<SecurityGroup>> Ec2Client::security_groups(const Filters& filters,
                                                              const CancelToken& cancel) {
  net::QueryPairs parameters;
  add_filters(parameters, filters);
  std::vector<SecurityGroup> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeSecurityGroups", parameters, "securityGroupInfo",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(SecurityGroup group, parse_group(item));
        out.push_back(std::move(group));
        return {};
      },
      cancel));
  return out;
}

Result<SecurityGroupId> Ec2Client::create_security_group(const std::string& name,
                                                         const std::string& description,
                                                         const VpcId& vpc, const Tags& tags,
                                                         const CancelToken& cancel) {
  net::QueryPairs parameters{
      {"GroupName", name}, {"GroupDescription", description}, {"VpcId", vpc.text()}};
  add_tags(parameters, tags, {"security-group"});
  RECLO_ASSIGN_OR_RETURN(const Bytes body, client_.call("CreateSecurityGroup", parameters, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:CreateSecurityGroup"));
  RECLO_ASSIGN_OR_RETURN(const std::string id,
                         xml_required(document->document_element(), "groupId"));
  return SecurityGroupId::parse(id);
}

Status Ec2Client::allow_ingress(const SecurityGroupId& group, const IngressRule& rule,
                                const CancelToken& cancel) {
  net::QueryPairs parameters{{"GroupId", group.text()},
                             {"IpPermissions.1.IpProtocol", rule.protocol},
                             {"IpPermissions.1.IpRanges.1.CidrIp", rule.cidr}};
  if (rule.protocol != "-1") {
    parameters.emplace_back("IpPermissions.1.FromPort", std::to_string(rule.port));
    parameters.emplace_back("IpPermissions.1.ToPort", std::to_string(rule.port));
  }
  const auto done = client_.call("AuthorizeSecurityGroupIngress", parameters, cancel);
  if (done.ok() || done.error().code() == Code::kAlreadyExists) return {};
  return done.error();
}

Status Ec2Client::deny_egress(const SecurityGroupId& group, const CancelToken& cancel) {
  for (const auto& [range, everywhere] :
       {std::pair("IpRanges.1.CidrIp", "0.0.0.0/0"), std::pair("Ipv6Ranges.1.CidrIpv6", "::/0")}) {
    const auto done = client_.call("RevokeSecurityGroupEgress",
                                   {{"GroupId", group.text()},
                                    {"IpPermissions.1.IpProtocol", "-1"},
                                    {fmt::format("IpPermissions.1.{}", range), everywhere}},
                                   cancel);
    if (!done.ok() && done.error().code() != Code::kNotFound) return done.error();
  }
  return {};
}

Status Ec2Client::delete_security_group(const SecurityGroupId& group, const CancelToken& cancel) {
  const auto gone = client_.call("DeleteSecurityGroup", {{"GroupId", group.text()}}, cancel);
  if (gone.ok() || gone.error().code() == Code::kNotFound) return {};
  return gone.error();
}

}  // namespace reclo::cloud
