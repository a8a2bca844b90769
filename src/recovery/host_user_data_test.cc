#include "recovery/host_user_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reclo::recovery {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

HostUserData sample() {
  HostUserData wanted;
  wanted.repository = "s3://bucket/office";
  wanted.point = "latest:front desk";
  wanted.passphrase_parameter = "/reclo/passphrase";
  wanted.forwards = {"0.0.0.0:80:80"};
  return wanted;
}

TEST(HostUserData, QuotesWhatComesFromOutside) {
  HostUserData wanted = sample();
  wanted.point = "latest:o'brien; rm -rf /";
  const auto text = host_user_data(wanted);
  ASSERT_TRUE(text.ok());
  EXPECT_THAT(*text, HasSubstr(R"('latest:o'\''brien; rm -rf /')"));
  EXPECT_TRUE(text->starts_with("#!/bin/bash\n"));
}

TEST(HostUserData, ChecksThePackageItWasToldTo) {
  HostUserData wanted = sample();
  EXPECT_THAT(host_user_data(wanted).value(), Not(HasSubstr("sha256sum")));
  wanted.package_url = "https://example.org/reclo.deb";
  wanted.package_sha256 = std::string(64, 'a');
  EXPECT_THAT(host_user_data(wanted).value(), HasSubstr("sha256sum --check"));
}

TEST(HostUserData, RefusesWhatCannotBeRight) {
  const auto refused = [](auto change) {
    HostUserData wanted = sample();
    change(wanted);
    const auto text = host_user_data(wanted);
    return !text.ok() && text.error().code() == Code::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](HostUserData& w) { w.repository = "/srv/backup"; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.point = "a\nRECLO_HOST_START\nreboot"; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.passphrase_parameter.clear(); }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.passphrase_secret = "both"; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.package_url = "http://example.org/x.deb"; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.package_sha256 = "abc"; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.forwards = {"none"}; }));
  EXPECT_TRUE(refused([](HostUserData& w) { w.forwards.assign(2000, "8080:80"); }));
}

}  // namespace
}  // namespace reclo::recovery
