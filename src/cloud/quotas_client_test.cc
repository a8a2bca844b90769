#include "cloud/quotas_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cloud/cloud_test_util.h"
#include "cloud/ec2_client.h"

namespace reclo::cloud {
namespace {

using testing::answer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Script;
using testing::test_limit;

TEST(QuotasClientTest, AsksAsJsonAndReadsTheValue) {
  Script script({answer(200, R"({"Quota": {"QuotaCode": "L-1216C47A", "Value": 32.0}})")});
  QuotasClient client(script.options());
  EXPECT_EQ(client.quota("ec2", kStandardVcpusQuota, test_limit()).value(), 32.0);
  const net::SeenRequest seen = script.seen().at(0);
  EXPECT_THAT(seen.body, HasSubstr(R"("QuotaCode":"L-1216C47A")"));
  EXPECT_THAT(seen.body, HasSubstr(R"("ServiceCode":"ec2")"));
}

TEST(QuotasClientTest, WordsRefusalsAndRefusesNonsense) {
  const std::vector<std::pair<std::string, Code>> cases = {
      {R"({"__type": "com.amazonaws.servicequotas#AccessDeniedException", "Message": "no"})",
       Code::kPermissionDenied},
      {R"({"__type": "NoSuchResourceException", "Message": "no"})", Code::kNotFound},
      {"not JSON", Code::kInvalidArgument}};
  for (const auto& [body, code] : cases) {
    Script script({answer(400, body)});
    QuotasClient client(script.options());
    EXPECT_EQ(client.quota("ec2", "L-1", test_limit()).error().code(), code) << body;
  }
  for (const char* body : {"", "{}", R"({"Quota": 3})", R"({"Quota": {"Value": "3"}})",
                           R"({"Quota": {"Value": -1}})", R"({"Quota": {"Value": 1e999}})"}) {
    Script script({answer(200, body)});
    QuotasClient client(script.options());
    EXPECT_FALSE(client.quota("ec2", "L-1", test_limit()).ok()) << body;
  }
}

TEST(QuotasClientTest, KnowsTheStandardFamilies) {
  for (const char* type :
       {"m7i.large", "t3.micro", "c8i.2xlarge", "r6a.large", "z1d.large", "i3.large"})
    EXPECT_TRUE(is_standard_type(type)) << type;
  for (const char* type : {"", "g5.xlarge", "p4d.24xlarge", "inf2.xlarge", "trn1.2xlarge",
                           "mac2.metal", "hpc7a.96xlarge", "u-6tb1.metal", "dl1.24xlarge"})
    EXPECT_FALSE(is_standard_type(type)) << type;
}

TEST(Ec2NetworkTest, ReadsSubnetsAndWhatGroupsLetOut) {
  Script subnets({answer(200,
                         "<r><subnetSet><item><subnetId>subnet-0a</subnetId><vpcId>vpc-0b</vpcId>"
                         "<availabilityZone>eu-central-1a</availabilityZone><cidrBlock>10.0.0.0/24"
                         "</cidrBlock></item></subnetSet></r>")});
  Ec2Client client(subnets.options());
  const auto found = client.subnets({{"default-for-az", {"true"}}}, test_limit()).value();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].vpc.text(), "vpc-0b");
  EXPECT_EQ(found[0].cidr, "10.0.0.0/24");

  const std::string head =
      "<r><securityGroupInfo><item><groupId>sg-0a</groupId><groupName>x</groupName>"
      "<vpcId>vpc-0b</vpcId><ipPermissionsEgress>";
  const std::string tail = "</ipPermissionsEgress></item></securityGroupInfo></r>";
  for (const auto& [rules, count] : std::vector<std::pair<std::string, size_t>>{
           {"", 0},
           {"<item><ipProtocol>-1</ipProtocol><ipRanges/></item>", 0},
           {"<item><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>", 1},
           {"<item><ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges></item>", 1},
           {"<item><groups><item><groupId>sg-1</groupId></item></groups></item>", 1}}) {
    Script groups({answer(200, head + rules + tail)});
    Ec2Client reader(groups.options());
    EXPECT_EQ(reader.security_groups({}, test_limit()).value().at(0).egress_rules, count) << rules;
  }
}

TEST(Ec2NetworkTest, DeniesEgressByBothKindsOfAddress) {
  Script script({answer(200, "<r/>"),
                 answer(400,
                        "<Response><Errors><Error><Code>InvalidPermission.NotFound</Code>"
                        "<Message>no</Message></Error></Errors></Response>")});
  Ec2Client client(script.options());
  EXPECT_TRUE(client.deny_egress(SecurityGroupId::parse("sg-0a").value(), test_limit()).ok());
  EXPECT_THAT(script.seen().at(0).body, HasSubstr("IpRanges.1.CidrIp=0.0.0.0%2F0"));
  EXPECT_THAT(script.seen().at(1).body, HasSubstr("Ipv6Ranges.1.CidrIpv6=%3A%3A%2F0"));
}

TEST(Ec2InstanceTypesTest, ReadsWhatATypeIs) {
  Script script(
      {answer(200,
              "<r><instanceTypeSet><item><instanceType>m7i.large</instanceType><vCpuInfo>"
              "<defaultVCpus>2</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>8192</sizeInMiB>"
              "</memoryInfo><processorInfo><supportedArchitectures><item>x86_64</item>"
              "</supportedArchitectures></processorInfo><supportedBootModes><item>legacy-bios"
              "</item><item>uefi</item></supportedBootModes></item></instanceTypeSet></r>")});
  Ec2Client client(script.options());
  const auto types = client.instance_types({"m7i.large", "m9.none"}, test_limit()).value();
  ASSERT_EQ(types.size(), 1u);
  EXPECT_EQ(types[0].vcpus, 2u);
  EXPECT_EQ(types[0].memory_mib, 8192u);
  EXPECT_THAT(types[0].architectures, ElementsAre("x86_64"));
  EXPECT_THAT(types[0].boot_modes, ElementsAre("legacy-bios", "uefi"));
  EXPECT_THAT(script.seen().at(0).body, HasSubstr("MaxResults=100"));
}

TEST(Ec2ImportTest, EndsATaskThatHasEnded) {
  for (const char* code : {"InvalidConversionTaskId.NotFound", "InvalidParameterValue"}) {
    Script script({answer(400, std::string("<Response><Errors><Error><Code>") + code +
                                   "</Code><Message>no</Message></Error></Errors></Response>")});
    Ec2Client client(script.options());
    EXPECT_TRUE(client.cancel_import_task("import-snap-1", test_limit()).ok()) << code;
  }
}

}  // namespace
}  // namespace reclo::cloud
