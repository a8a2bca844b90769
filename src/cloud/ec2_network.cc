#include <fmt/format.h>

#include "cloud/ec2_client.h"
#include "cloud/ec2_parameters.h"

namespace reclo::cloud {

Result<Subnet> Ec2Client::subnet(const SubnetId& id, const CancelToken& cancel) {
  std::optional<Subnet> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeSubnets", {{"SubnetId.1", id.text()}}, "subnetSet",
      [&](const pugi::xml_node& item) -> Status {
        Subnet subnet;
        subnet.id = id;
        RECLO_ASSIGN_OR_RETURN(const std::string vpc, xml_required(item, "vpcId"));
        RECLO_ASSIGN_OR_RETURN(subnet.vpc, VpcId::parse(vpc));
        subnet.zone = xml_text(item, "availabilityZone");
        subnet.cidr = xml_text(item, "cidrBlock");
        out = std::move(subnet);
        return {};
      },
      cancel));
  if (!out) return Error(Code::kNotFound, fmt::format("there is no subnet {}", id.text()));
  return *std::move(out);
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
  const auto done = client_.call("RevokeSecurityGroupEgress",
                                 {{"GroupId", group.text()},
                                  {"IpPermissions.1.IpProtocol", "-1"},
                                  {"IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"}},
                                 cancel);
  if (done.ok() || done.error().code() == Code::kNotFound) return {};
  return done.error();
}

Status Ec2Client::delete_security_group(const SecurityGroupId& group, const CancelToken& cancel) {
  const auto gone = client_.call("DeleteSecurityGroup", {{"GroupId", group.text()}}, cancel);
  if (gone.ok() || gone.error().code() == Code::kNotFound) return {};
  return gone.error();
}

}  // namespace reclo::cloud
