// Where credentials and the region come from, with every source there is.
#include "net/aws_credentials.h"

#include <gtest/gtest.h>

#include "net/test_server.h"
#include "os/file.h"

namespace reclo::net {
namespace {

class AwsCredentialsTest : public testing::Test {
 protected:
  void SetUp() override {
    variables_["HOME"] = home_.path();
    variables_["AWS_EC2_METADATA_DISABLED"] = "true";
  }
  Environment environment() const {
    return [this](const std::string& name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      if (found == variables_.end()) return std::nullopt;
      return found->second;
    };
  }
  void write(const std::string& name, std::string_view content) {
    const std::string path = os::join_path(home_.path(), name);
    ASSERT_TRUE(os::make_directories(os::parent_path(path)).ok());
    ASSERT_TRUE(os::write_file_durably(path, as_bytes(content)).ok());
  }
  Result<AwsCredentials> load() { return CredentialsProvider(environment()).get(CancelToken()); }

  os::TempDir home_ = os::TempDir::create("reclo-test-").value();
  std::map<std::string, std::string> variables_;
};

TEST_F(AwsCredentialsTest, VariablesComeFirst) {
  write(".aws/credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=fs\n");
  EXPECT_EQ(load()->access_key_id, "FILE");
  variables_["AWS_ACCESS_KEY_ID"] = "ENV";
  EXPECT_EQ(load().error().code(), Code::kUnauthenticated) << "half of a key";
  variables_["AWS_SECRET_ACCESS_KEY"] = "es";
  variables_["AWS_SESSION_TOKEN"] = "et";
  const AwsCredentials credentials = load().value();
  EXPECT_EQ(credentials.access_key_id, "ENV");
  EXPECT_EQ(credentials.secret_access_key, "es");
  EXPECT_EQ(credentials.session_token, "et");
}

TEST_F(AwsCredentialsTest, ProfilesOfBothFiles) {
  write(".aws/credentials",
        "# comment\n[ work ]\naws_access_key_id = W\r\naws_secret_access_key = a=b#c\n"
        "[other]\naws_access_key_id=O\naws_secret_access_key=o\n");
  write(".aws/config",
        "[default]\nregion=eu-west-1\n[profile work]\nregion = eu-central-1\n"
        "s3 =\n  max_concurrent_requests = 20\n");
  EXPECT_EQ(configured_aws_region(environment()).value(), "eu-west-1");
  EXPECT_EQ(load().error().code(), Code::kUnauthenticated) << "default has no key";
  variables_["AWS_PROFILE"] = "work";
  EXPECT_EQ(load()->access_key_id, "W");
  EXPECT_EQ(load()->secret_access_key, "a=b#c");
  EXPECT_EQ(configured_aws_region(environment()).value(), "eu-central-1");
  variables_["AWS_REGION"] = "us-west-2";
  EXPECT_EQ(configured_aws_region(environment()).value(), "us-west-2");
  variables_["AWS_PROFILE"] = "nobody";
  const Error error = load().error();
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_NE(error.message().find("'nobody'"), std::string::npos);
}

TEST_F(AwsCredentialsTest, FilesElsewhereAndFilesThatAreNone) {
  write("c", "[default]\naws_access_key_id=C\naws_secret_access_key=c\n");
  variables_["AWS_SHARED_CREDENTIALS_FILE"] = os::join_path(home_.path(), "c");
  EXPECT_EQ(load()->access_key_id, "C");
  for (const char* bad : {"key = value\n", "[open\n", "[default]\nsecret-without-equals\n"}) {
    write("c", bad);
    const Error error = load().error();
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_EQ(error.message().find("secret-without"), std::string::npos) << "may be secret";
  }
}

TEST_F(AwsCredentialsTest, WhatIsNotSupportedIsSaid) {
  for (const char* setting :
       {"role_arn = r\nsource_profile = x", "credential_process = /bin/x", "sso_session = s"}) {
    write(".aws/config", std::string("[default]\n") + setting + "\n");
    EXPECT_EQ(load().error().code(), Code::kUnsupported) << setting;
  }
}

constexpr std::string_view kAnswer =
    R"({"AccessKeyId": "ROLE%", "SecretAccessKey": "s", "Token": "t", "Expiration": "@"})";

std::string role_answer(int number, WallTime expires) {
  std::string text(kAnswer);
  text.replace(text.find('%'), 1, std::to_string(number));
  // As the service writes it, without a fraction.
  text.replace(text.find('@'), 1, format_time(expires).replace(19, 4, ""));
  return TestServer::answer(200, text);
}

TEST_F(AwsCredentialsTest, InstanceRoleByImdsV2IsRenewedBeforeItExpires) {
  std::atomic<int> handed_out = 0;
  std::atomic<int> lifetime_s = 60;
  TestServer server([&](const SeenRequest& seen) {
    if (seen.method == "PUT" && seen.target == "/latest/api/token")
      return TestServer::answer(
          seen.headers.count("x-aws-ec2-metadata-token-ttl-seconds") ? 200 : 400, "tok");
    const auto token = seen.headers.find("x-aws-ec2-metadata-token");
    if (token == seen.headers.end() || token->second != "tok") return TestServer::answer(401, "");
    if (seen.target == "/latest/meta-data/iam/security-credentials/")
      return TestServer::answer(200, "my-role");
    EXPECT_EQ(seen.target, "/latest/meta-data/iam/security-credentials/my-role");
    return role_answer(++handed_out, wall_now() + std::chrono::seconds(lifetime_s));
  });
  variables_.erase("AWS_EC2_METADATA_DISABLED");
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = server.url() + "/";
  CredentialsProvider provider(environment());
  const AwsCredentials first = provider.get(CancelToken()).value();
  EXPECT_EQ(first.access_key_id, "ROLE1");
  EXPECT_EQ(first.session_token, "t");
  lifetime_s = 3600;
  EXPECT_EQ(provider.get(CancelToken())->access_key_id, "ROLE2") << "expires within five minutes";
  EXPECT_EQ(provider.get(CancelToken())->access_key_id, "ROLE2") << "fresh for an hour";
  EXPECT_TRUE(provider.forget());
  EXPECT_EQ(provider.get(CancelToken())->access_key_id, "ROLE3");
}

TEST_F(AwsCredentialsTest, ContainerEndpoint) {
  TestServer server([&](const SeenRequest& seen) {
    if (seen.headers.count("authorization") == 0) return TestServer::answer(401, "");
    return role_answer(9, wall_now() + std::chrono::hours(1));
  });
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server.url() + "/creds";
  EXPECT_EQ(load().error().code(), Code::kUnauthenticated);
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "Basic x";
  EXPECT_EQ(load()->access_key_id, "ROLE9");
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://example.com/creds";
  EXPECT_EQ(load().error().code(), Code::kInvalidArgument);
}

TEST_F(AwsCredentialsTest, NobodyHasAny) {
  EXPECT_EQ(load().error().code(), Code::kUnauthenticated);
  variables_.erase("AWS_EC2_METADATA_DISABLED");
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1";
  const Error error = load().error();
  EXPECT_EQ(error.code(), Code::kUnauthenticated);
  EXPECT_NE(error.message().find("AWS_ACCESS_KEY_ID"), std::string::npos);
}

TEST_F(AwsCredentialsTest, FixedOnesStay) {
  AwsCredentials fixed;
  fixed.access_key_id = "F";
  CredentialsProvider provider(fixed);
  EXPECT_FALSE(provider.forget());
  EXPECT_EQ(provider.get(CancelToken())->access_key_id, "F");
}

}  // namespace
}  // namespace reclo::net
