#include "backup/server_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reclo::backup {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPoint = "00112233445566778899aabbccddeeff";

IdentityClaim on(const std::string& uuid, const std::string& machine_id) {
  IdentityClaim claim;
  claim.hardware = {uuid, machine_id};
  return claim;
}

IdentityClaim copy() {
  IdentityClaim claim;
  claim.copy = RecoveredCopy{"files", kPoint, "/etc/reclo/recovered.json"};
  return claim;
}

TEST(ServerIdentity, SurvivesBeingWrittenAndHoldsNoNumberItself) {
  const auto identity = check_identity("files", std::nullopt, false, on("uuid-1", "machine-1"));
  ASSERT_TRUE(identity.ok());
  const std::string text = encode_identity(*identity);
  EXPECT_EQ(decode_identity(text).value(), *identity);
  EXPECT_THAT(text, Not(HasSubstr("uuid-1")));
  EXPECT_THAT(text, Not(HasSubstr("machine-1")));
}

TEST(ServerIdentity, OtherHardwareIsRefusedUntilItIsAcknowledged) {
  const auto known = check_identity("files", std::nullopt, false, on("uuid-1", "")).value();
  EXPECT_TRUE(check_identity("files", known, true, on("uuid-1", "machine-1")).ok());
  EXPECT_TRUE(check_identity("files", known, true, on("", "machine-1")).ok());
  const auto refused = check_identity("files", known, true, on("uuid-2", ""));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kConflict);
  EXPECT_THAT(refused.error().message(), HasSubstr("--same-server"));
  IdentityClaim acknowledged = on("uuid-2", "");
  acknowledged.same_server = true;
  const auto bound = check_identity("files", known, true, acknowledged);
  ASSERT_TRUE(bound.ok());
  EXPECT_TRUE(check_identity("files", *bound, true, on("uuid-2", "")).ok());
}

TEST(ServerIdentity, ACopyBranchesAndNeverAppends) {
  const auto known = check_identity("files", std::nullopt, false, on("uuid-1", "")).value();
  IdentityClaim claim = copy();
  for (const bool same_server : {false, true}) {
    claim.same_server = same_server;
    const auto refused = check_identity("files", known, true, claim);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message(), HasSubstr("--branch"));
    EXPECT_FALSE(check_identity("files", std::nullopt, false, claim).ok());
  }
  claim.same_server = false;
  claim.branch = true;
  EXPECT_FALSE(check_identity("files", known, true, claim).ok());  // the original's own name
  const std::string name = branch_name("files", claim);
  EXPECT_EQ(name, "files (recovered from 00112233)");
  const auto branch = check_identity(name, std::nullopt, false, claim);
  ASSERT_TRUE(branch.ok());
  EXPECT_EQ(branch->recovered_from->point, kPoint);
  EXPECT_TRUE(check_identity(name, *branch, true, claim).ok());
  EXPECT_TRUE(check_identity(name, *branch, true, copy()).ok());  // the next backups just go on
  IdentityClaim of_another = copy();
  of_another.copy->point = "ffeeddccbbaa99887766554433221100";
  EXPECT_FALSE(check_identity(name, *branch, true, of_another).ok());  // a copy of the copy
}

TEST(ServerIdentity, BranchNamesFit) {
  const std::string longest(100, 'x');
  EXPECT_EQ(branch_name(longest, copy()).size(), 100U);
  EXPECT_EQ(branch_name("files", IdentityClaim()), "files (branch)");
}

TEST(ServerIdentity, NonsenseIsRefused) {
  for (const char* text : {"", "{}", R"({"version":1,"product_uuid":"x","machine_id":""})",
                           R"({"version":1,"product_uuid":"","machine_id":"",)"
                           R"("recovered_from":{"server":"a/b","point":""}})"}) {
    const auto identity = decode_identity(text);
    ASSERT_FALSE(identity.ok()) << text;
    EXPECT_EQ(identity.error().code(), Code::kCorruption) << text;
  }
}

}  // namespace
}  // namespace reclo::backup
