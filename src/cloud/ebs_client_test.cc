// What EbsClient sends, and what it makes of answers that AWS may give.
#include "cloud/ebs_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/encoding.h"
#include "cloud/cloud_test_util.h"

namespace reclo::cloud {
namespace {

using testing::answer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Script;
using testing::test_limit;

const SnapshotId kSnapshot = SnapshotId::parse("snap-0123456789abcdef0").value();
const SnapshotId kParent = SnapshotId::parse("snap-0aa").value();

std::string refusal(int status, const std::string& type, const std::string& reason = "") {
  return answer(status, R"({"Message":"no","Reason":")" + reason + R"("})",
                "x-amzn-ErrorType: " + type + "\r\n");
}

TEST(ResourceIdTest, TakesNothingThatIsNotOne) {
  for (const char* text : {"", "snap-", "ami-0123", "snap-01/../02", "snap-0123456789ABCDEF",
                           "snap-%20", "snap-0123456789012345678901234567890123456789x"})
    EXPECT_EQ(SnapshotId::parse(text).error().code(), Code::kInvalidArgument) << text;
  EXPECT_EQ(InstanceId::parse("i-0abc").value().text(), "i-0abc");
}

TEST(EbsClientTest, StartsAChildWithATokenAndTags) {
  Script script({answer(201, R"({"SnapshotId":"snap-0b","BlockSize":524288})")});
  EbsClient client(script.options());
  StartSnapshot wanted;
  wanted.volume_size_gib = 30;
  wanted.parent = kParent;
  wanted.client_token = "files/7";
  wanted.tags = {{"reclo-server", "files"}};
  EXPECT_EQ(client.start(wanted, test_limit()).value().text(), "snap-0b");
  const auto seen = script.seen().at(0);
  EXPECT_EQ(seen.method + seen.target, "POST/snapshots");
  EXPECT_EQ(
      seen.body,
      R"({"ClientToken":"files/7","ParentSnapshotId":"snap-0aa","Tags":[{"Key":"reclo-server",)"
      R"("Value":"files"}],"Timeout":60,"VolumeSize":30})");
  EXPECT_THAT(seen.headers.at("authorization"), HasSubstr("/eu-central-1/ebs/aws4_request"));
  EXPECT_EQ(script.meter->requests().at("ebs:StartSnapshot"), 1u);
}

TEST(EbsClientTest, RefusesBlocksOfAnotherSize) {
  Script script({answer(201, R"({"SnapshotId":"snap-0b","BlockSize":512})")});
  EbsClient client(script.options());
  EXPECT_EQ(client.start({}, test_limit()).error().code(), Code::kUnsupported);
}

TEST(EbsClientTest, PutsABlockWithItsChecksum) {
  Script script({answer(201, "")});
  EbsClient client(script.options());
  const Bytes block(kEbsBlockSizeBytes, 7);
  const net::Sha256 digest = client.put_block(kSnapshot, 9, block, test_limit()).value();
  EXPECT_EQ(to_hex(digest), to_hex(net::sha256(block)));
  const auto seen = script.seen().at(0);
  EXPECT_EQ(seen.target, "/snapshots/snap-0123456789abcdef0/blocks/9");
  EXPECT_EQ(seen.headers.at("x-amz-checksum"), to_base64(digest));
  EXPECT_EQ(seen.headers.at("x-amz-checksum-algorithm"), "SHA256");
  EXPECT_EQ(seen.headers.at("x-amz-data-length"), "524288");
  EXPECT_EQ(seen.body.size(), block.size());
}

TEST(EbsClientTest, TriesAgainWhatWillPass) {
  Script script({refusal(400, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE"),
                 refusal(400, "ThrottlingException"),
                 refusal(400, "ValidationException", "CONFLICTING_BLOCK_UPDATE"),
                 refusal(400, "ValidationException", "WRITE_REQUEST_TIMEOUT"),
                 refusal(500, "InternalServerException"), answer(201, "")});
  EbsClient client(script.options());
  EXPECT_TRUE(client.put_block(kSnapshot, 0, Bytes(kEbsBlockSizeBytes), test_limit()).ok());
  EXPECT_EQ(script.seen().size(), 6u);
}

TEST(EbsClientTest, WaitsForASnapshotThatIsNotVisibleYetOnly) {
  Script known({answer(201, R"({"SnapshotId":"snap-0b"})"),
                refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"), answer(201, "")});
  EbsClient client(known.options());
  const SnapshotId started = client.start({}, test_limit()).value();
  EXPECT_TRUE(client.put_block(started, 0, Bytes(kEbsBlockSizeBytes), test_limit()).ok());

  // The parent of a new one is old: when it is not there, it is gone.
  Script orphan({answer(201, R"({"SnapshotId":"snap-0b"})"),
                 refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")});
  EbsClient second(orphan.options());
  ASSERT_TRUE(second.start({}, test_limit()).ok());
  StartSnapshot child;
  child.parent = kParent;
  EXPECT_EQ(second.start(child, test_limit()).error().code(), Code::kNotFound);
  EXPECT_EQ(orphan.seen().size(), 2u);

  Script unknown({refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")});
  EbsClient other(unknown.options());
  EXPECT_EQ(other.put_block(kSnapshot, 0, Bytes(kEbsBlockSizeBytes), test_limit()).error().code(),
            Code::kNotFound);
  EXPECT_EQ(unknown.seen().size(), 1u);
}

TEST(EbsClientTest, ADenialNamesTheMissingStatement) {
  Script script({refusal(403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")});
  EbsClient client(script.options());
  const auto result = client.complete(kSnapshot, 1, {}, test_limit());
  EXPECT_EQ(result.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(result.error().message(), HasSubstr(R"("Action": "ebs:CompleteSnapshot")"));
}

TEST(EbsClientTest, AFullQuotaIsNotTriedAgain) {
  for (const char* type : {"ConcurrentLimitExceededException", "ServiceQuotaExceededException"}) {
    Script script({refusal(400, type)});
    EbsClient client(script.options());
    EXPECT_EQ(client.start({}, test_limit()).error().code(), Code::kResourceExhausted) << type;
    EXPECT_EQ(script.seen().size(), 1u);
  }
}

TEST(EbsClientTest, ListsPastEmptyPages) {
  Script script(
      {answer(200, R"({"Blocks":[{"BlockIndex":3,"BlockToken":"a/+="}],"NextToken":"p/1="})"),
       answer(200, R"({"Blocks":[],"NextToken":"p2"})"),
       answer(200, R"({"Blocks":[{"BlockIndex":5,"BlockToken":"b"}]})")});
  EbsClient client(script.options());
  std::vector<uint32_t> indices;
  ASSERT_TRUE(client
                  .list_blocks(
                      kSnapshot,
                      [&](const BlockToken& block) -> Status {
                        indices.push_back(block.index);
                        return {};
                      },
                      test_limit())
                  .ok());
  EXPECT_THAT(indices, ElementsAre(3, 5));
  EXPECT_THAT(script.seen().at(1).target, HasSubstr("pageToken=p%2F1%3D"));
}

TEST(EbsClientTest, RefusesListsThatMakeNoSense) {
  const std::vector<std::vector<std::string>> lists = {
      {answer(200, R"({"Blocks":[],"NextToken":"p"})"),
       answer(200, R"({"Blocks":[],"NextToken":"p"})")},
      {answer(
          200,
          R"({"Blocks":[{"BlockIndex":5,"BlockToken":"b"},{"BlockIndex":5,"BlockToken":"b"}]})")},
      {answer(200, R"({"Blocks":[{"BlockIndex":-1,"BlockToken":"b"}]})")},
      {answer(200, R"({"Blocks":[{"BlockIndex":4294967296,"BlockToken":"b"}]})")},
      {answer(200, R"({"Blocks":{}})")},
      {answer(200, "<html>")}};
  for (const auto& answers : lists) {
    Script script(answers);
    EbsClient client(script.options());
    const auto visit = [](const BlockToken&) -> Status { return {}; };
    EXPECT_FALSE(client.list_blocks(kSnapshot, visit, test_limit()).ok()) << answers[0];
  }
}

TEST(EbsClientTest, TellsChangedFromRemoved) {
  Script script(
      {answer(200, R"({"ChangedBlocks":[{"BlockIndex":1,"FirstBlockToken":"f"},)"
                   R"({"BlockIndex":2,"FirstBlockToken":"f","SecondBlockToken":"s"}]})")});
  EbsClient client(script.options());
  std::vector<ChangedBlock> blocks;
  ASSERT_TRUE(client
                  .list_changed_blocks(
                      kParent, kSnapshot,
                      [&](const ChangedBlock& block) -> Status {
                        blocks.push_back(block);
                        return {};
                      },
                      test_limit())
                  .ok());
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].second_token, "");
  EXPECT_EQ(blocks[1].second_token, "s");
  EXPECT_THAT(
      script.seen().at(0).target,
      HasSubstr("/snapshots/snap-0123456789abcdef0/changedblocks?firstSnapshotId=snap-0aa"));
}

TEST(EbsClientTest, ABlockThatDoesNotFitItsChecksumIsDamage) {
  const std::string block(kEbsBlockSizeBytes, 'x');
  const std::string right = to_base64(net::sha256(as_bytes(block)));
  Script script({answer(200, block, "x-amz-Checksum: " + right + "\r\n"),
                 answer(200, block, "x-amz-Checksum: " + to_base64(Bytes(32)) + "\r\n"),
                 answer(200, "short", "x-amz-Checksum: " + right + "\r\n")});
  EbsClient client(script.options());
  EXPECT_EQ(client.get_block(kSnapshot, {1, "t"}, test_limit()).value().size(), kEbsBlockSizeBytes);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(client.get_block(kSnapshot, {1, "t"}, test_limit()).error().code(),
              Code::kCorruption);
}

}  // namespace
}  // namespace reclo::cloud
