#include "recovery/ec2/failover_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "os/file.h"
#include "recovery/ec2/failover_launch.h"
#include "recovery/ec2/failover_network.h"
#include "recovery/ec2/failover_plan.h"
#include "recovery/ec2/failover_store.h"

namespace reclo::recovery {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Ec2Instance sample() {
  Ec2Instance record;
  record.id = "0123456789ab";
  record.name = "the \"one\"";
  record.server = "front desk";
  record.repository = "00ff";
  record.machine = MachineId::parse("00112233445566778899aabbccddeeff").value();
  record.point = PointId::parse("ffeeddccbbaa99887766554433221100").value();
  record.point_time = parse_time("2026-11-23T07:05:09.120Z").value();
  record.created_at = parse_time("2026-11-24T07:05:09.120Z").value();
  record.state = FailoverState::kLaunched;
  record.problem = "gave up";
  record.request.instance_types = {"m7i.large", "t3.large"};
  record.request.subnet = cloud::SubnetId::parse("subnet-0c").value();
  record.request.security_groups = {cloud::SecurityGroupId::parse("sg-0d").value()};
  record.request.drill = true;
  record.request.ttl_ms = 7'200'000;
  record.request.via = FailoverVia::kImport;
  record.cloud = {"eu-central-1", "http://127.0.0.1:1", "", "", "", "arn:aws:iam::1:role/r"};
  record.source = {{"repository", "/srv/backup"}};
  record.via = FailoverVia::kCold;
  record.boot_mode = cloud::BootMode::kUefi;
  record.image = cloud::ImageId::parse("ami-0b").value();
  record.image_disks = {{"/dev/xvda", cloud::SnapshotId::parse("snap-0a").value()}};
  record.disks = {
      {0, 12345, 2, cloud::SnapshotId::parse("snap-0a").value(), {{3, 9}}, true, "u", true, "t"}};
  record.overlay = "0a0b";
  record.request.no_prepare = true;
  record.made_group = cloud::SecurityGroupId::parse("sg-0e").value();
  record.launches = {{1, "m7i.large", cloud::SubnetId::parse("subnet-0c").value(), "eu-central-1a",
                      record.request.security_groups, "key", "10.0.0.9", "no room"}};
  record.instance = cloud::InstanceId::parse("i-0f").value();
  record.public_ip = "203.0.113.9";
  record.private_ip = "10.0.0.9";
  record.ec2_state = "running";
  record.expires_at = parse_time("2026-11-24T09:05:09.120Z").value();
  record.run = 3;
  record.steps = {{"image", 3, 1000, 2500}};
  record.rpo_ms = 86'400'000;
  return record;
}

TEST(FailoverRecordTest, RoundTrips) {
  EXPECT_EQ(decode_ec2_instance(encode_ec2_instance(sample())).value(), sample());
  EXPECT_EQ(decode_ec2_instance(encode_ec2_instance(Ec2Instance())).value(), Ec2Instance());
}

TEST(FailoverRecordTest, NothingInItIsTakenOnTrust) {
  const std::string whole = encode_ec2_instance(sample());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {std::string(), std::string("{}"), with("snap-0a", "snap-0a/../x"), with("i-0f", "ami-0f"),
        with("\"uefi\"", "\"pxe\""), with("\"cold\"", "\"warm\""), with("launched", "lunched"),
        with("12345", "-1"), with("2026-11-24T09", "2026-11-99T09"), with("subnet-0c", "0c"),
        whole.substr(0, whole.size() / 2)})
    EXPECT_EQ(decode_ec2_instance(text).error().code(), Code::kCorruption) << text;
  EXPECT_EQ(decode_ec2_instance(with("\"version\": 1", "\"version\": 2")).error().code(),
            Code::kUnsupported);
}

TEST(FailoverRecordTest, DescribesItselfForOthers) {
  const Ec2Instance record = sample();
  const Json json = describe_ec2_instance(record, *record.expires_at);
  EXPECT_EQ(json["target"], "ec2");
  EXPECT_EQ(json["running"], true);
  EXPECT_EQ(json["overdue"], true);
  EXPECT_EQ(json["addresses"], Json::array({"203.0.113.9", "10.0.0.9"}));
  EXPECT_EQ(json["steps"][0]["duration_ms"], 1500);
  EXPECT_FALSE(record.overdue(record.created_at));
}

TEST(FailoverRecordTest, TellsTheGuestThatItIsACopyAndNoSecret) {
  const std::string text = clone_user_data(sample());
  ASSERT_TRUE(text.starts_with("#cloud-config\n"));
  const Json config = parse_json(text.substr(text.find('\n')), "user data").value();
  const Json& file = config["write_files"][0];
  EXPECT_EQ(file["path"], "/etc/reclo/clone.json");
  const Json marker = parse_json(file["content"].get<std::string>(), "marker").value();
  EXPECT_EQ(marker["recovered_from"], sample().point.hex());
  EXPECT_EQ(marker["drill"], true);
  EXPECT_THAT(text, Not(HasSubstr("/srv/backup")));
}

TEST(FailoverStoreTest, KeepsRecordsBesideThoseOfQemu) {
  const os::TempDir folder = os::TempDir::create("reclo-ec2-").value();
  const Ec2InstanceStore store(folder.path());
  Ec2Instance one = sample();
  ASSERT_TRUE(store.create(one).ok());
  Ec2Instance other = sample();
  other.name = "";
  ASSERT_TRUE(store.create(other).ok());
  ASSERT_TRUE(os::make_directories(os::join_path(folder.path(), "instances/aaaaaaaaaaaa")).ok());
  EXPECT_EQ(store.list().value().size(), 2u);
  EXPECT_EQ(store.load(one.id).value(), one);
  EXPECT_EQ(store.find("the \"one\"").value(), one.id);
  EXPECT_EQ(store.find(other.id.substr(0, 11)).value(), other.id);
  EXPECT_EQ(store.find("nobody").value(), std::nullopt);
  EXPECT_EQ(store.load("../../etc").error().code(), Code::kNotFound);
  const os::FileLock held = store.lock(one.id).value();
  EXPECT_EQ(store.lock(one.id).error().code(), Code::kConflict);
  EXPECT_TRUE(store.remove(other).ok());
  EXPECT_EQ(store.list().value().size(), 1u);
}

TEST(FailoverPlanTest, KnowsWhichAddressesARangeHolds) {
  EXPECT_TRUE(is_inside_cidr("10.1.2.3", "10.1.0.0/16"));
  EXPECT_FALSE(is_inside_cidr("10.2.2.3", "10.1.0.0/16"));
  EXPECT_TRUE(is_inside_cidr("203.0.113.7", "0.0.0.0/0"));
  EXPECT_FALSE(is_inside_cidr("203.0.113.8", "203.0.113.7/32"));
  for (const char* bad : {"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "x/8", "::/0"})
    EXPECT_EQ(check_cidr(bad).error().code(), Code::kInvalidArgument) << bad;
}

TEST(FailoverLaunchTest, WaitsAtTheInstancesAddressUnlessAnotherIsGiven) {
  EXPECT_EQ(wait_target_at("tcp:22", "203.0.113.9").value().address, "203.0.113.9");
  const WaitTarget page = wait_target_at("http:80/a:b", "203.0.113.9").value();
  EXPECT_EQ(page.address, "203.0.113.9");
  EXPECT_EQ(page.path, "/a:b");
  EXPECT_EQ(page.host_header, "203.0.113.9:80");
  EXPECT_EQ(wait_target_at("tcp:10.0.0.1:22", "203.0.113.9").value().address, "10.0.0.1");
  EXPECT_EQ(wait_target_at("http://10.0.0.1:80/", "203.0.113.9").value().address, "10.0.0.1");
  EXPECT_FALSE(wait_target_at("icmp:1", "203.0.113.9").ok());
}

TEST(FailoverLaunchTest, AQuestionIsOpenUntilItWasRefused) {
  Ec2Instance record = sample();
  EXPECT_FALSE(has_open_launch(record));
  record.launches.back().refused.clear();
  EXPECT_TRUE(has_open_launch(record));
  EXPECT_FALSE(has_open_launch(Ec2Instance()));
}

TEST(FailoverNetworkTest, SaysWhoIsLetIn) {
  FailoverRequest request;
  EXPECT_THAT(admission_note(request), HasSubstr("51820"));
  request.drill = true;
  EXPECT_THAT(admission_note(request), HasSubstr("nobody"));
  request.operator_cidr = "203.0.113.7/32";
  EXPECT_EQ(admission_note(request), "");
}

}  // namespace
}  // namespace reclo::recovery
