// What Ec2Client and StsClient send, and what they make of answers that AWS may give.
#include "cloud/ec2_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cloud/cloud_test_util.h"
#include "cloud/sts_client.h"

namespace reclo::cloud {
namespace {

using testing::answer;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Script;
using testing::test_limit;

const SnapshotId kSnapshot = SnapshotId::parse("snap-0a").value();

std::string refusal(int status, const std::string& code) {
  return answer(status, "<Response><Errors><Error><Code>" + code +
                            "</Code><Message>no</Message></Error></Errors></Response>");
}

std::string snapshots(const std::string& state) {
  return answer(200,
                "<DescribeSnapshotsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">"
                "<snapshotSet><item><snapshotId>snap-0a</snapshotId><status>" +
                    state +
                    "</status><statusMessage>why</statusMessage><volumeSize>30</volumeSize><tagSet>"
                    "<item><key>reclo-server</key><value>files</value></item></tagSet></item>"
                    "</snapshotSet></DescribeSnapshotsResponse>");
}

TEST(Ec2ClientTest, RegistersWhatTheDefaultsWouldGetWrong) {
  Script script(
      {answer(200, "<RegisterImageResponse><imageId>ami-0b</imageId></RegisterImageResponse>")});
  Ec2Client client(script.options());
  RegisterImage wanted;
  wanted.name = "reclo/files/7";
  wanted.boot_mode = BootMode::kUefi;
  wanted.disks = {{"/dev/xvda", kSnapshot, 30, 0}, {"/dev/xvdb", kSnapshot, 0, 0}};
  wanted.tags = {{"reclo-server", "A & B"}};
  EXPECT_EQ(client.register_image(wanted, test_limit()).value().text(), "ami-0b");
  const std::string body = script.seen().at(0).body;
  for (const char* part :
       {"Action=RegisterImage", "Version=2016-11-15", "Architecture=x86_64",
        "VirtualizationType=hvm", "EnaSupport=true", "BootMode=uefi",
        "RootDeviceName=%2Fdev%2Fxvda", "BlockDeviceMapping.1.Ebs.SnapshotId=snap-0a",
        "BlockDeviceMapping.1.Ebs.VolumeSize=30", "BlockDeviceMapping.2.Ebs.VolumeType=gp3",
        "TagSpecification.1.ResourceType=image", "TagSpecification.1.Tag.1.Value=A%20%26%20B",
        "ImdsSupport=v2.0"})
    EXPECT_THAT(body, HasSubstr(part));
  EXPECT_THAT(body, Not(HasSubstr("BlockDeviceMapping.2.Ebs.VolumeSize")));
}

TEST(Ec2ClientTest, RunsOneInstanceByItsToken) {
  Script script({answer(
      200,
      "<RunInstancesResponse><instancesSet><item><instanceId>i-0c</instanceId><imageId>ami-0b</"
      "imageId>"
      "<instanceState><code>0</code><name>pending</name></instanceState><instanceType>m7i.large"
      "</instanceType><placement><availabilityZone>eu-central-1a</availabilityZone></placement>"
      "<privateIpAddress>10.0.0.9</privateIpAddress><blockDeviceMapping><item><deviceName>/dev/xvda"
      "</deviceName><ebs><volumeId>vol-0d</volumeId></ebs></item></blockDeviceMapping></item>"
      "</instancesSet></RunInstancesResponse>")});
  Ec2Client client(script.options());
  RunInstance wanted;
  wanted.image = ImageId::parse("ami-0b").value();
  wanted.instance_type = "m7i.large";
  wanted.private_ip = "10.0.0.9";
  wanted.user_data = "#!/bin/sh\n";
  EXPECT_EQ(client.run_instance(wanted, test_limit()).error().code(), Code::kInternal);
  wanted.client_token = "failover-7";
  const Instance instance = client.run_instance(wanted, test_limit()).value();
  EXPECT_EQ(instance.state, "pending");
  EXPECT_EQ(instance.volumes.at("/dev/xvda").text(), "vol-0d");
  const std::string body = script.seen().at(0).body;
  for (const char* part : {"ClientToken=failover-7", "UserData=IyEvYmluL3NoCg%3D%3D",
                           "MetadataOptions.HttpTokens=required", "MinCount=1", "MaxCount=1"})
    EXPECT_THAT(body, HasSubstr(part));
}

TEST(Ec2ClientTest, NoCapacityIsNotTriedAgainButThrottlingIs) {
  RunInstance wanted;
  wanted.image = ImageId::parse("ami-0b").value();
  wanted.client_token = "t";
  Script full({refusal(500, "InsufficientInstanceCapacity")});
  Ec2Client client(full.options());
  EXPECT_EQ(client.run_instance(wanted, test_limit()).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(full.seen().size(), 1u);

  Script quota({refusal(400, "VcpuLimitExceeded")});
  Ec2Client limited(quota.options());
  EXPECT_EQ(limited.run_instance(wanted, test_limit()).error().code(), Code::kResourceExhausted);

  Script busy({refusal(503, "RequestLimitExceeded"), refusal(400, "RequestLimitExceeded"),
               snapshots("completed")});
  Ec2Client patient(busy.options());
  EXPECT_EQ(patient.snapshot(kSnapshot, test_limit()).value().volume_size_gib, 30u);
}

TEST(Ec2ClientTest, WordsWhatWasRefused) {
  const std::vector<std::pair<std::string, Code>> cases = {
      {"UnauthorizedOperation", Code::kPermissionDenied},
      {"AuthFailure", Code::kUnauthenticated},
      {"InvalidAMIName.Duplicate", Code::kAlreadyExists},
      {"InvalidSnapshot.NotFound", Code::kNotFound},
      {"InvalidSnapshot.InUse", Code::kConflict},
      {"IncorrectState", Code::kConflict},
      {"InvalidParameterValue", Code::kInvalidArgument}};
  for (const auto& [said, code] : cases) {
    Script script({refusal(400, said)});
    Ec2Client client(script.options());
    const auto result = client.snapshot(kSnapshot, test_limit());
    EXPECT_EQ(result.error().code(), code) << said;
    EXPECT_THAT(result.error().message(), HasSubstr(said));
    EXPECT_EQ(script.seen().size(), 1u) << said;
  }
}

TEST(Ec2ClientTest, GoneAlreadyIsGone) {
  Script script({refusal(400, "InvalidSnapshot.NotFound")});
  Ec2Client client(script.options());
  EXPECT_TRUE(client.delete_snapshot(kSnapshot, test_limit()).ok());
  Script held({refusal(400, "InvalidSnapshot.InUse")});
  Ec2Client holding(held.options());
  EXPECT_EQ(holding.delete_snapshot(kSnapshot, test_limit()).error().code(), Code::kConflict);
}

TEST(Ec2ClientTest, WaitsForASnapshotToStayCompleted) {
  Script script({refusal(400, "InvalidSnapshot.NotFound"), snapshots("completed"),
                 snapshots("pending"), snapshots("completed")});
  Ec2Client client(script.options());
  EXPECT_TRUE(client.wait_for_snapshot(kSnapshot, std::chrono::seconds(30), test_limit()).ok());
  EXPECT_EQ(script.seen().size(), 6u);

  Script failed({snapshots("error")});
  Ec2Client other(failed.options());
  const auto result = other.wait_for_snapshot(kSnapshot, std::chrono::seconds(30), test_limit());
  EXPECT_EQ(result.error().code(), Code::kIo);
  EXPECT_THAT(result.error().message(), HasSubstr("why"));
}

TEST(Ec2ClientTest, FollowsPagesAndRefusesNonsense) {
  const std::string page =
      "<DescribeInstancesResponse><reservationSet/><nextToken>n/1</nextToken></"
      "DescribeInstancesResponse>";
  Script script({answer(200, page), answer(200, "<DescribeInstancesResponse/>")});
  Ec2Client client(script.options());
  EXPECT_TRUE(client.instances({{"tag:reclo-server", {"a", "b"}}}, test_limit()).value().empty());
  EXPECT_THAT(script.seen().at(0).body,
              HasSubstr("Filter.1.Name=tag%3Areclo-server&Filter.1.Value.1=a&Filter.1.Value.2=b"));
  EXPECT_THAT(script.seen().at(1).body, HasSubstr("NextToken=n%2F1"));
  for (const std::string& body :
       {page, std::string("<html><body>"), std::string("not XML"),
        std::string("<r><reservationSet><item><instancesSet><item/></instancesSet></item></"
                    "reservationSet></r>"),
        std::string(
            "<r><reservationSet><item><instancesSet><item><instanceId>i-../</instanceId></item>"
            "</instancesSet></item></reservationSet></r>")}) {
    Script bad({answer(200, body)});
    Ec2Client reader(bad.options());
    EXPECT_FALSE(reader.instances({}, test_limit()).ok()) << body;
  }
}

TEST(StsClientTest, AssumesARole) {
  Script script(
      {answer(200,
              "<AssumeRoleResponse "
              "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>"
              "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</"
              "SecretAccessKey><SessionToken>t</SessionToken>"
              "<Expiration>2026-11-23T12:00:00Z</Expiration></Credentials></AssumeRoleResult></"
              "AssumeRoleResponse>")});
  StsClient client(script.options());
  const auto credentials =
      client.assume_role("arn:aws:iam::1:role/r", "reclo", std::chrono::hours(1), test_limit());
  ASSERT_TRUE(credentials.ok()) << credentials.error().message();
  EXPECT_EQ(credentials.value().access_key_id, "ASIA1");
  EXPECT_TRUE(credentials.value().expires);
  EXPECT_THAT(script.seen().at(0).body, HasSubstr("DurationSeconds=3600"));
}

TEST(StsClientTest, AWrongKeyIsSaidSo) {
  Script script(
      {answer(403,
              "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security "
              "token is invalid</Message></Error></ErrorResponse>")});
  StsClient client(script.options());
  const auto result = client.caller_identity(test_limit());
  EXPECT_EQ(result.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(result.error().message(), Not(HasSubstr("secret/")));
}

}  // namespace
}  // namespace reclo::cloud
