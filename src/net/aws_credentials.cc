#include "net/aws_credentials.h"

#include <fmt/format.h>

#include "base/json.h"
#include "net/http_client.h"
#include "net/url.h"
#include "os/file.h"

namespace reclo::net {
namespace {

using std::chrono::seconds;

constexpr auto kRefreshBeforeExpiry = std::chrono::minutes(5);
constexpr seconds kMetadataTimeout{2};
constexpr int kMetadataAttempts = 3;
constexpr size_t kMetadataSizeBytesMax = 64 << 10;

// Nothing: this source has none, ask the next. An Error: it should have, and does not.
using Found = Result<std::optional<AwsCredentials>>;

Found from_variables(const Environment& environment) {
  const auto id = environment("AWS_ACCESS_KEY_ID");
  const auto secret = environment("AWS_SECRET_ACCESS_KEY");
  if (id.has_value() != secret.has_value())
    return Error(Code::kUnauthenticated,
                 "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set: set both");
  if (!id) return std::optional<AwsCredentials>();
  AwsCredentials credentials;
  credentials.access_key_id = *id;
  credentials.secret_access_key = *secret;
  credentials.session_token = environment("AWS_SESSION_TOKEN").value_or("");
  return std::optional(std::move(credentials));
}

Found from_profile(const Environment& environment) {
  RECLO_ASSIGN_OR_RETURN(const AwsProfile profile, load_aws_profile(environment));
  AwsCredentials credentials;
  credentials.access_key_id = profile.setting("aws_access_key_id");
  credentials.secret_access_key = profile.setting("aws_secret_access_key");
  credentials.session_token = profile.setting("aws_session_token");
  // With source_profile the keys in the profile (if any) are not the ones it means to use.
  for (const char* key : {"role_arn", "sso_session", "sso_start_url", "credential_process",
                          "web_identity_token_file"})
    if (!profile.setting(key).empty())
      return Error(
          Code::kUnsupported,
          fmt::format("the AWS profile '{}' uses {}, which ReClo does not: export keys for "
                      "it ('aws configure export-credentials --profile {} --format env')",
                      profile.name, key, profile.name));
  if (credentials.access_key_id.empty() && credentials.secret_access_key.empty())
    return std::optional<AwsCredentials>();
  if (credentials.access_key_id.empty() || credentials.secret_access_key.empty())
    return Error(Code::kUnauthenticated,
                 fmt::format("the AWS profile '{}' has only one of aws_access_key_id and "
                             "aws_secret_access_key",
                             profile.name));
  return std::optional(std::move(credentials));
}

HttpClient metadata_client() {
  HttpClientOptions options;
  options.connect_timeout = kMetadataTimeout;
  options.stall_timeout = kMetadataTimeout;
  options.connections_max = 1;
  options.bypass_proxy = true;
  return HttpClient(options);
}

Result<HttpResponse> fetch(HttpClient& client, const HttpRequest& request,
                           const CancelToken& cancel) {
  for (int attempt = 1;; ++attempt) {
    Result<HttpResponse> response = client.send(request, cancel);
    const bool again = response.ok() ? response->status >= 500 : response.error().retryable();
    if (!again || attempt == kMetadataAttempts) return response;
    RECLO_TRY(cancel.sleep_for(std::chrono::milliseconds(200 * attempt)));
  }
}

// The answer of both container and instance endpoints.
Result<AwsCredentials> parse_credentials(const HttpResponse& response, const std::string& source) {
  if (response.status != 200)
    return Error(Code::kUnauthenticated,
                 fmt::format("{} answered {} instead of credentials", source, response.status));
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(as_text(response.body), source, kMetadataSizeBytesMax));
  AwsCredentials credentials;
  RECLO_ASSIGN_OR_RETURN(credentials.access_key_id, json_get<std::string>(json, "AccessKeyId"));
  RECLO_ASSIGN_OR_RETURN(credentials.secret_access_key,
                         json_get<std::string>(json, "SecretAccessKey"));
  RECLO_ASSIGN_OR_RETURN(credentials.session_token, json_get<std::string>(json, "Token"));
  RECLO_ASSIGN_OR_RETURN(const std::string expires, json_get<std::string>(json, "Expiration"));
  RECLO_ASSIGN_OR_RETURN(credentials.expires, parse_time(expires));
  return credentials;
}

// The service hands secrets to whoever asks: over plain HTTP only to addresses of this machine.
bool is_safe_container_endpoint(const Url& url) {
  const std::string host = url.host();
  return url.scheme == "https" || host == "127.0.0.1" || host == "localhost" || host == "[::1]" ||
         host == "169.254.170.2" || host == "169.254.170.23" || host == "[fd00:ec2::23]";
}

Found from_container(const Environment& environment, const CancelToken& cancel) {
  const auto relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const auto full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (!relative && !full) return std::optional<AwsCredentials>();
  HttpRequest request;
  request.url = relative ? "http://169.254.170.2" + *relative : *full;
  request.response_size_bytes_max = kMetadataSizeBytesMax;
  RECLO_ASSIGN_OR_RETURN(const Url url, parse_url(request.url));
  if (!is_safe_container_endpoint(url))
    return Error(Code::kInvalidArgument,
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI names another machine over plain http");
  if (const auto file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
    RECLO_ASSIGN_OR_RETURN(const Bytes token, os::read_file(*file, kMetadataSizeBytesMax));
    request.headers.emplace_back("Authorization", as_text(token));
  } else if (const auto token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN")) {
    request.headers.emplace_back("Authorization", *token);
  }
  HttpClient client = metadata_client();
  RECLO_ASSIGN_OR_RETURN_WITH(const HttpResponse response, fetch(client, request, cancel),
                              "container credentials");
  RECLO_ASSIGN_OR_RETURN(AwsCredentials credentials,
                         parse_credentials(response, "container credentials"));
  return std::optional(std::move(credentials));
}

Found from_instance(const Environment& environment, const CancelToken& cancel) {
  if (environment("AWS_EC2_METADATA_DISABLED").value_or("") == "true")
    return std::optional<AwsCredentials>();
  std::string base =
      environment("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or("http://169.254.169.254");
  while (base.ends_with('/')) base.pop_back();
  HttpClient client = metadata_client();
  HttpRequest request;
  request.method = "PUT";
  request.url = base + "/latest/api/token";
  request.headers = {{"x-aws-ec2-metadata-token-ttl-seconds", "21600"}};
  request.response_size_bytes_max = kMetadataSizeBytesMax;
  // Not on EC2 nobody answers, and that should not take long to find out.
  const Result<HttpResponse> token = client.send(request, cancel);
  if (!token.ok()) {
    RECLO_TRY(cancel.check());
    return std::optional<AwsCredentials>();
  }
  if (token->status != 200) return std::optional<AwsCredentials>();

  request.method = "GET";
  request.headers = {{"x-aws-ec2-metadata-token", std::string(as_text(token->body))}};
  const std::string roles = base + "/latest/meta-data/iam/security-credentials/";
  request.url = roles;
  RECLO_ASSIGN_OR_RETURN_WITH(const HttpResponse role, fetch(client, request, cancel),
                              "instance metadata");
  if (role.status == 404) return std::optional<AwsCredentials>();  // an instance without a role
  const std::string name(as_text(role.body).substr(0, as_text(role.body).find('\n')));
  if (role.status != 200 || name.empty())
    return Error(Code::kUnavailable,
                 fmt::format("the instance metadata service answered {} when asked for the role",
                             role.status));
  request.url = roles + percent_encode(name);
  RECLO_ASSIGN_OR_RETURN_WITH(const HttpResponse response, fetch(client, request, cancel),
                              "instance metadata");
  RECLO_ASSIGN_OR_RETURN(
      AwsCredentials credentials,
      parse_credentials(response, fmt::format("the instance's role '{}'", name)));
  return std::optional(std::move(credentials));
}

}  // namespace

CredentialsProvider::CredentialsProvider(Environment environment)
    : environment_(std::move(environment)), fixed_(false) {}

CredentialsProvider::CredentialsProvider(AwsCredentials credentials)
    : fixed_(true), cached_(std::move(credentials)) {}

CredentialsProvider::CredentialsProvider(Fetch fetch) : fetch_(std::move(fetch)), fixed_(false) {}

Result<AwsCredentials> CredentialsProvider::load(const CancelToken& cancel) const {
  if (fetch_) return fetch_(cancel);
  RECLO_ASSIGN_OR_RETURN(std::optional<AwsCredentials> found, from_variables(environment_));
  if (found) return *std::move(found);
  RECLO_ASSIGN_OR_RETURN(found, from_profile(environment_));
  if (found) return *std::move(found);
  if (environment_("AWS_WEB_IDENTITY_TOKEN_FILE"))
    return Error(Code::kUnsupported,
                 "AWS_WEB_IDENTITY_TOKEN_FILE is set, but ReClo does not use web identities: give "
                 "it keys or an instance role");
  RECLO_ASSIGN_OR_RETURN(found, from_container(environment_, cancel));
  if (found) return *std::move(found);
  RECLO_ASSIGN_OR_RETURN(found, from_instance(environment_, cancel));
  if (found) return *std::move(found);
  return Error(Code::kUnauthenticated,
               "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
               "AWS_PROFILE with ~/.aws/credentials, or give this instance a role");
}

Result<AwsCredentials> CredentialsProvider::get(const CancelToken& cancel) {
  const std::lock_guard lock(mutex_);
  const bool fresh =
      cached_ && (!cached_->expires || *cached_->expires - kRefreshBeforeExpiry > wall_now());
  if (fresh || fixed_) return *cached_;
  Result<AwsCredentials> loaded = load(cancel);
  if (!loaded.ok()) {
    // A metadata service that is away for a moment must not stop work that can still go on.
    if (cached_ && cached_->expires && *cached_->expires > wall_now() && cancel.check().ok())
      return *cached_;
    return loaded;
  }
  cached_ = *loaded;
  return loaded;
}

bool CredentialsProvider::forget() {
  if (fixed_) return false;
  const std::lock_guard lock(mutex_);
  cached_.reset();
  return true;
}

}  // namespace reclo::net
