#include "recovery/ec2/failover_network.h"

#include "base/kill_point.h"

namespace reclo::recovery {
namespace {

constexpr uint16_t kVpnPort = 51820;
constexpr auto kRemovePatience = std::chrono::minutes(5);
constexpr auto kPollInterval = std::chrono::seconds(2);

std::string group_name(const Ec2Instance& record) { return "reclo-failover-" + record.id; }

Result<cloud::SecurityGroupId> make_group(FailoverBench& bench, const cloud::VpcId& vpc) {
  const Ec2Instance& record = bench.record;
  // EC2 takes letters, digits, spaces and ._-:/()#,@[]+=&;{}!$* here: no server's name.
  auto made = bench.cloud.ec2->create_security_group(
      group_name(record),
      fmt::format("ReClo {} {}", record.request.drill ? "drill" : "failover", record.id), vpc,
      bench.tags(), bench.cancel);
  if (made.ok() || made.error().code() != Code::kAlreadyExists) return made;
  // An earlier run made it and died before it could note so.
  RECLO_ASSIGN_OR_RETURN(
      const auto found,
      bench.cloud.ec2->security_groups(
          {{"group-name", {group_name(record)}}, {"vpc-id", {vpc.text()}}}, bench.cancel));
  if (found.empty()) return made;
  return found.front().id;
}

Status check_isolated(FailoverBench& bench) {
  const cloud::SecurityGroupId& group = bench.record.made_group;
  RECLO_ASSIGN_OR_RETURN(const auto found, bench.cloud.ec2->security_groups(
                                               {{"group-id", {group.text()}}}, bench.cancel));
  if (found.size() == 1 && found.front().egress_rules == 0) return {};
  return Error(Code::kConflict,
               fmt::format("security group {} still lets its members out: a drill is not started "
                           "in it",
                           group.text()));
}

Status set_rules(FailoverBench& bench) {
  cloud::Ec2Client& ec2 = *bench.cloud.ec2;
  const FailoverRequest& request = bench.record.request;
  const cloud::SecurityGroupId& group = bench.record.made_group;
  if (request.drill) {
    RECLO_TRY(ec2.deny_egress(group, bench.cancel));
    RECLO_TRY(check_isolated(bench));
  } else {
    RECLO_TRY(ec2.allow_ingress(group, {"udp", kVpnPort, "0.0.0.0/0"}, bench.cancel));
  }
  if (request.operator_cidr.empty()) return {};
  return ec2.allow_ingress(group, {"-1", 0, request.operator_cidr}, bench.cancel);
}

}  // namespace

Status ensure_group(FailoverBench& bench, const cloud::VpcId& vpc) {
  Ec2Instance& record = bench.record;
  if (record.request.security_groups.empty()) {
    if (record.made_group.empty()) {
      RECLO_ASSIGN_OR_RETURN(record.made_group, make_group(bench, vpc));
      RECLO_KILL_POINT("failover.group_made");
      RECLO_TRY(bench.save());
    }
    RECLO_TRY(set_rules(bench));
    RECLO_KILL_POINT("failover.group_ruled");
  }
  record.state = FailoverState::kNetworkReady;
  return bench.save();
}

Status remove_group(FailoverBench& bench) {
  RECLO_ASSIGN_OR_RETURN(const auto groups,
                         bench.cloud.ec2->security_groups(bench.made_for_it(), bench.cancel));
  const CancelToken deadline = bench.cancel.with_timeout(kRemovePatience);
  for (const cloud::SecurityGroup& group : groups) {
    for (;;) {
      const Status gone = bench.cloud.ec2->delete_security_group(group.id, bench.cancel);
      if (gone.ok()) break;
      // A terminated instance's network interface is a member for some seconds more.
      if (gone.error().code() != Code::kConflict) return gone;
      if (!deadline.sleep_for(kPollInterval).ok()) return gone;
    }
  }
  bench.record.made_group = {};
  return bench.save();
}

std::string admission_note(const FailoverRequest& request) {
  if (!request.security_groups.empty() || !request.operator_cidr.empty()) return "";
  if (request.drill) return "no --operator-cidr: the drill's security group lets nobody in";
  return fmt::format(
      "no --operator-cidr: the security group admits the VPN (UDP port {}) and nothing else",
      kVpnPort);
}

}  // namespace reclo::recovery
