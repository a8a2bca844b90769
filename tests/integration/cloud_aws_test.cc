// The cloud clients against the strict EC2 stand-in (tests/rigs/ec2), which cloud_test.sh brings
// up. RECLO_TEST_AWS_ENDPOINT names it; credentials come from the usual variables.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/task_pool.h"
#include "cloud/ebs_client.h"
#include "cloud/ec2_client.h"
#include "cloud/sts_client.h"

namespace reclo::cloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CancelToken test_limit() { return CancelToken().with_timeout(std::chrono::minutes(2)); }

std::string endpoint() {
  const char* text = std::getenv("RECLO_TEST_AWS_ENDPOINT");
  return text == nullptr ? "" : text;
}

class CloudTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(endpoint(), "") << "RECLO_TEST_AWS_ENDPOINT is not set";
    lab("POST", "/lab/fault", "[]");
    lab("POST", "/lab/ebs", R"({"complete_s": 0.3, "visible_after_s": 0, "page_max": 10000})");
  }
  static void lab(const std::string& method, const std::string& path, ByteSpan body) {
    net::HttpClient http;
    net::HttpRequest request;
    request.method = method;
    request.url = endpoint() + path;
    request.body = body;
    const auto response = http.send(request, test_limit());
    ASSERT_TRUE(response.ok()) << response.error().message();
    ASSERT_EQ(response->status, 200);
  }
  static void lab(const std::string& method, const std::string& path, const std::string& body) {
    lab(method, path, as_bytes(body));
  }
  static ServiceOptions options() {
    ServiceOptions out;
    out.region = "us-east-1";
    out.endpoint = endpoint();
    out.retry.first_delay = std::chrono::milliseconds(20);
    out.retry.delay_max = std::chrono::milliseconds(200);
    out.credentials = std::make_shared<net::CredentialsProvider>();
    return out;
  }
  static Bytes block(uint8_t fill) { return Bytes(kEbsBlockSizeBytes, fill); }

  // A completed snapshot of `size_gib` with one block for each (index, fill).
  SnapshotId make_snapshot(const std::map<uint32_t, uint8_t>& blocks,
                           const std::optional<SnapshotId>& parent = std::nullopt) {
    StartSnapshot wanted;
    wanted.volume_size_gib = 2;
    wanted.parent = parent;
    const SnapshotId id = ebs_.start(wanted, test_limit()).value();
    Bytes digests;
    for (const auto& [index, fill] : blocks) {
      const net::Sha256 digest = ebs_.put_block(id, index, block(fill), test_limit()).value();
      digests.insert(digests.end(), digest.begin(), digest.end());
    }
    const Status done =
        ebs_.complete(id, static_cast<uint32_t>(blocks.size()), net::sha256(digests), test_limit());
    EXPECT_TRUE(done.ok()) << done.error().message();
    EXPECT_TRUE(ec2_.wait_for_snapshot(id, std::chrono::seconds(20), test_limit()).ok());
    return id;
  }
  std::map<uint32_t, uint8_t> read_back(const SnapshotId& id) {
    std::map<uint32_t, uint8_t> out;
    const Status listed = ebs_.list_blocks(
        id,
        [&](const BlockToken& token) -> Status {
          RECLO_ASSIGN_OR_RETURN(const Bytes data, ebs_.get_block(id, token, test_limit()));
          EXPECT_TRUE(data == block(data[0]));
          out[token.index] = data[0];
          return {};
        },
        test_limit());
    EXPECT_TRUE(listed.ok()) << listed.error().message();
    return out;
  }
  std::vector<uint32_t> changed(const SnapshotId& first, const SnapshotId& second) {
    std::vector<uint32_t> out;
    const Status listed = ebs_.list_changed_blocks(
        first, second,
        [&](const ChangedBlock& block) -> Status {
          out.push_back(block.index);
          return {};
        },
        test_limit());
    EXPECT_TRUE(listed.ok()) << listed.error().message();
    return out;
  }
  ImageId register_image(const std::string& name, const SnapshotId& snapshot) {
    RegisterImage wanted;
    wanted.name = name;
    wanted.boot_mode = BootMode::kUefi;
    wanted.disks = {{"/dev/xvda", snapshot, 2, 0}};
    wanted.tags = {{"reclo-server", name}};
    const auto image = ec2_.register_image(wanted, test_limit());
    EXPECT_TRUE(image.ok()) << image.error().message();
    return *image;
  }

  EbsClient ebs_{options()};
  Ec2Client ec2_{options()};
};

TEST_F(CloudTest, WeAreWhoWeAre) {
  StsClient sts(options());
  const auto identity = sts.caller_identity(test_limit());
  ASSERT_TRUE(identity.ok()) << identity.error().message();
  EXPECT_EQ(identity->account, "123456789012");
  const auto role = sts.assume_role("arn:aws:iam::123456789012:role/reclo", "test",
                                    std::chrono::hours(1), test_limit());
  ASSERT_TRUE(role.ok()) << role.error().message();
  ServiceOptions as_role = options();
  as_role.credentials = std::make_shared<net::CredentialsProvider>(*role);
  EXPECT_TRUE(Ec2Client(as_role).snapshots({}, test_limit()).ok());
}

TEST_F(CloudTest, AWrongSecretIsRefused) {
  ServiceOptions wrong = options();
  net::AwsCredentials credentials;
  credentials.access_key_id = std::getenv("AWS_ACCESS_KEY_ID");
  credentials.secret_access_key = "wrong";
  wrong.credentials = std::make_shared<net::CredentialsProvider>(credentials);
  EXPECT_EQ(Ec2Client(wrong).snapshots({}, test_limit()).error().code(), Code::kUnauthenticated);
  EXPECT_EQ(EbsClient(wrong).start({}, test_limit()).error().code(), Code::kUnauthenticated);
}

TEST_F(CloudTest, ASnapshotIsWrittenAndReadBack) {
  const std::map<uint32_t, uint8_t> blocks = {{0, 1}, {7, 2}, {4095, 3}};
  EXPECT_EQ(read_back(make_snapshot(blocks)), blocks);
}

TEST_F(CloudTest, AChildHoldsItsParentsBlocksUntilTheyArePut) {
  const SnapshotId parent = make_snapshot({{0, 1}, {1, 2}, {2, 3}});
  const SnapshotId child = make_snapshot({{1, 0}, {9, 4}}, parent);
  EXPECT_EQ(read_back(child), (std::map<uint32_t, uint8_t>{{0, 1}, {1, 0}, {2, 3}, {9, 4}}));
  EXPECT_THAT(changed(parent, child), ElementsAre(1, 9));
  // Its parent may go: the child keeps what it shares.
  ASSERT_TRUE(ec2_.delete_snapshot(parent, test_limit()).ok());
  EXPECT_EQ(read_back(child).at(0), 1);
}

TEST_F(CloudTest, ListsOfManyPagesAreWhole) {
  std::map<uint32_t, uint8_t> blocks;
  for (uint32_t i = 0; i < 25; ++i) blocks[i * 3] = static_cast<uint8_t>(i + 1);
  const SnapshotId id = make_snapshot(blocks);
  lab("POST", "/lab/ebs", R"({"page_max": 4})");
  EXPECT_EQ(read_back(id), blocks);
}

TEST_F(CloudTest, TheSameTokenIsTheSameSnapshot) {
  StartSnapshot wanted;
  wanted.client_token = "token-" + std::to_string(wall_now().time_since_epoch().count());
  const SnapshotId first = ebs_.start(wanted, test_limit()).value();
  EXPECT_EQ(ebs_.start(wanted, test_limit()).value(), first);
  wanted.volume_size_gib = 9;
  EXPECT_EQ(ebs_.start(wanted, test_limit()).error().code(), Code::kConflict);
}

TEST_F(CloudTest, ACountOrChecksumThatDoesNotFitIsRefused) {
  const SnapshotId id = ebs_.start({}, test_limit()).value();
  const net::Sha256 digest = ebs_.put_block(id, 0, block(1), test_limit()).value();
  EXPECT_FALSE(ebs_.complete(id, 2, net::sha256(digest), test_limit()).ok());
  EXPECT_FALSE(ebs_.complete(id, 1, digest, test_limit()).ok());
  EXPECT_TRUE(ebs_.complete(id, 1, net::sha256(digest), test_limit()).ok());
}

TEST_F(CloudTest, ANewSnapshotThatIsNotVisibleYetIsWaitedFor) {
  lab("POST", "/lab/ebs", R"({"visible_after_s": 2})");
  const SnapshotId id = ebs_.start({}, test_limit()).value();
  EXPECT_TRUE(ebs_.put_block(id, 0, block(1), test_limit()).ok());
}

TEST_F(CloudTest, ThrottlesAndOutagesAreOutlasted) {
  lab("POST", "/lab/fault",
      R"([{"match": "PUT /snapshots", "mode": "throttle", "times": 9, "after": 3},
          {"match": "PUT /snapshots", "mode": "500", "times": 3, "after": 15},
          {"match": "PUT /snapshots", "mode": "reset-after", "times": 3, "after": 20},
          {"match": "RunInstances|DescribeSnapshots", "mode": "throttle", "times": 3}])");
  const SnapshotId id = ebs_.start({}, test_limit()).value();
  TaskPool pool(8);
  TaskGroup group(pool, test_limit());
  for (uint32_t i = 0; i < 40; ++i)
    group.spawn([&, i]() -> Status {
      RECLO_TRY(ebs_.put_block(id, i, block(5), group.token()));
      return {};
    });
  const Status put = group.wait();
  EXPECT_TRUE(put.ok()) << put.error().message();
  Bytes digests;
  for (int i = 0; i < 40; ++i) {
    const net::Sha256 digest = net::sha256(block(5));
    digests.insert(digests.end(), digest.begin(), digest.end());
  }
  EXPECT_TRUE(ebs_.complete(id, 40, net::sha256(digests), test_limit()).ok());
  EXPECT_TRUE(ec2_.wait_for_snapshot(id, std::chrono::seconds(20), test_limit()).ok());
}

TEST_F(CloudTest, ASnapshotThatEndsInAnErrorIsNotWaitedFor) {
  const SnapshotId id = ebs_.start({}, test_limit()).value();
  lab("POST", "/lab/fail-snapshot/" + id.text(), "");
  EXPECT_EQ(ec2_.wait_for_snapshot(id, std::chrono::seconds(20), test_limit()).error().code(),
            Code::kIo);
}

TEST_F(CloudTest, AnImageRunsAsOneInstanceByItsToken) {
  const SnapshotId snapshot = make_snapshot({{0, 1}});
  const ImageId image = register_image("one-instance", snapshot);
  const auto shown = ec2_.images({{"tag:reclo-server", {"one-instance"}}}, test_limit()).value();
  ASSERT_EQ(shown.size(), 1u);
  EXPECT_EQ(shown[0].boot_mode, "uefi");
  EXPECT_EQ(shown[0].disks.at(0).snapshot, snapshot);
  RunInstance wanted;
  wanted.image = image;
  wanted.instance_type = "m5.large";
  wanted.client_token = "one-instance";
  wanted.tags = {{"reclo-instance", "x"}};
  const Instance first = ec2_.run_instance(wanted, test_limit()).value();
  const Instance again = ec2_.run_instance(wanted, test_limit()).value();
  EXPECT_EQ(first.id, again.id);
  const auto running = ec2_.instances({{"tag:reclo-instance", {"x"}}}, test_limit()).value();
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].state, "running");
  EXPECT_EQ(running[0].volumes.count("/dev/xvda"), 1u);

  // What it writes shows as changed blocks against the snapshot it came from: failback.
  lab("PUT", "/lab/volume/" + running[0].volumes.at("/dev/xvda").text() + "/12", block(9));
  const SnapshotId after =
      ec2_.create_snapshot(running[0].volumes.at("/dev/xvda"), {{"reclo", "1"}}, test_limit())
          .value();
  ASSERT_TRUE(ec2_.wait_for_snapshot(after, std::chrono::seconds(20), test_limit()).ok());
  EXPECT_THAT(changed(snapshot, after), ElementsAre(12));

  EXPECT_EQ(ec2_.delete_snapshot(snapshot, test_limit()).error().code(), Code::kConflict);
  EXPECT_TRUE(ec2_.terminate_instance(first.id, test_limit()).ok());
  EXPECT_EQ(ec2_.instance(first.id, test_limit()).value().state, "terminated");
  EXPECT_TRUE(ec2_.deregister_image(image, test_limit()).ok());
  EXPECT_TRUE(ec2_.deregister_image(image, test_limit()).ok());
  EXPECT_TRUE(ec2_.delete_snapshot(snapshot, test_limit()).ok());
}

TEST_F(CloudTest, WhatEc2RefusesIsWorded) {
  const SnapshotId snapshot = make_snapshot({{0, 1}});
  const ImageId image = register_image("refused", snapshot);
  RegisterImage twice;
  twice.name = "refused";
  twice.disks = {{"/dev/xvda", snapshot, 0, 0}};
  EXPECT_EQ(ec2_.register_image(twice, test_limit()).error().code(), Code::kAlreadyExists);
  RunInstance wanted;
  wanted.image = image;
  wanted.instance_type = "m5.large";
  wanted.client_token = "refused-1";
  lab("POST", "/lab/fault", R"([{"match": "RunInstances", "mode": "capacity", "times": 1}])");
  EXPECT_EQ(ec2_.run_instance(wanted, test_limit()).error().code(), Code::kResourceExhausted);
  lab("POST", "/lab/fault", R"([{"match": "RunInstances", "mode": "quota", "times": 1}])");
  EXPECT_EQ(ec2_.run_instance(wanted, test_limit()).error().code(), Code::kResourceExhausted);
  lab("POST", "/lab/fault", R"([{"match": "RunInstances", "mode": "denied", "times": 1}])");
  const auto denied = ec2_.run_instance(wanted, test_limit());
  EXPECT_EQ(denied.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(denied.error().message(), HasSubstr(R"("Action": "ec2:RunInstances")"));
  lab("POST", "/lab/fault", R"([{"match": "PUT /snapshots", "mode": "denied", "times": 1}])");
  EXPECT_THAT(ebs_.put_block(snapshot, 0, block(1), test_limit()).error().message(),
              HasSubstr("ebs:PutSnapshotBlock"));
  wanted.image = ImageId::parse("ami-0123456789abcdef0").value();
  EXPECT_EQ(ec2_.run_instance(wanted, test_limit()).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace reclo::cloud
