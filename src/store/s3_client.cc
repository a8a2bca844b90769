#include "store/s3_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "store/s3_xml.h"

namespace reclo::store {

using net::HttpRequest;
using net::HttpResponse;

namespace {

bool is_bucket_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
         (c >= 'A' && c <= 'Z');
}

// The words for a refusal; `region` is where the service says the bucket is.
Error refusal(const S3Options& options, const S3Call& call, int status, const S3ErrorBody& body,
              const std::string& region) {
  const std::string where = fmt::format("bucket '{}' at {}", options.bucket, options.endpoint);
  const std::string said = fmt::format("{}{}{}{}", status, body.code.empty() ? "" : " ", body.code,
                                       body.message.empty() ? "" : ": " + body.message);
  const std::string_view code = body.code;
  if (code == "NoSuchBucket")
    return Error(
        Code::kInvalidArgument,
        fmt::format("there is no {}: create it, or check its name and the endpoint", where));
  if (code == "NoSuchKey" || (status == 404 && code.empty()))
    return Error(Code::kNotFound, fmt::format("no object '{}' in {}", call.key, where));
  if (code == "InvalidAccessKeyId")
    return Error(
        Code::kUnauthenticated,
        fmt::format("{} does not know the access key: check AWS_ACCESS_KEY_ID or the profile",
                    where));
  if (code == "SignatureDoesNotMatch")
    return Error(Code::kUnauthenticated,
                 fmt::format("{} refuses the signature: the secret key is wrong (or something "
                             "between here and there changes requests)",
                             where));
  if (code == "ExpiredToken" || code == "TokenRefreshRequired" || code == "InvalidToken")
    return Error(
        Code::kUnauthenticated,
        fmt::format("the session token for {} has expired or is invalid: get new temporary "
                    "credentials",
                    where));
  if (code == "RequestTimeTooSkewed")
    return Error(Code::kUnauthenticated,
                 fmt::format("{} refuses requests because this machine's clock is wrong: set it "
                             "(timedatectl set-ntp true)",
                             where));
  if (code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" ||
      code == "IllegalLocationConstraintException" || status == 301 || status == 307)
    return Error(
        Code::kInvalidArgument,
        fmt::format("{} is in another region than '{}'{}: give it with --s3-region ({})", where,
                    options.region, region.empty() ? "" : ", in '" + region + "'", said));
  if (code == "QuotaExceeded" || status == 507)
    return Error(Code::kNoSpace, fmt::format("{} is full: {}", where, said));
  if (code == "NotImplemented" || status == 501)
    return Error(Code::kUnsupported, fmt::format("{} does not know this request ({} {}): {}", where,
                                                 call.method, call.key, said));
  if (status == 401 || status == 403)
    return Error(Code::kPermissionDenied,
                 fmt::format("{} denies {} of '{}': {} (S3 also says so for a missing object when "
                             "s3:ListBucket is not allowed)",
                             where, call.method, call.key, said));
  return Error(Code::kUnavailable,
               fmt::format("{} answered {} of '{}' with {}", where, call.method, call.key, said));
}

}  // namespace

Status check_s3_options(const S3Options& options) {
  const std::string& bucket = options.bucket;
  if (bucket.size() < 3 || bucket.size() > 255 || bucket.starts_with('.') ||
      !std::all_of(bucket.begin(), bucket.end(), is_bucket_character))
    return Error(Code::kInvalidArgument, fmt::format("'{}' cannot be a bucket's name", bucket));
  RECLO_TRY_WITH(net::parse_url(options.endpoint), "S3 endpoint");
  return {};
}

S3Client::S3Client(S3Options options, std::shared_ptr<net::CredentialsProvider> credentials)
    : options_(std::move(options)),
      client_({options_.endpoint, options_.region, "s3", options_.retry, options_.http, nullptr},
              std::move(credentials)) {
  net::Url url = net::parse_url(options_.endpoint).value();  // check_s3_options() saw it
  while (url.path.ends_with('/')) url.path.pop_back();
  url.query.clear();
  if (options_.path_style)
    url.path += "/" + options_.bucket;
  else
    url.authority = options_.bucket + "." + url.authority;
  base_url_ = url.text();
}

HttpRequest S3Client::make_request(const S3Call& call) const {
  HttpRequest request;
  request.method = call.method;
  request.url = base_url_ + "/" + net::percent_encode_path(call.key);
  if (call.key.empty() && options_.path_style) request.url = base_url_;
  if (!call.query.empty()) request.url += "?" + net::encode_query(call.query);
  request.headers = call.headers;
  request.body = call.body;
  request.response_size_bytes_max = call.response_size_bytes_max;
  return request;
}

Result<net::AwsAnswer> S3Client::perform(const S3Call& call, const CancelToken& cancel) {
  const auto explain = [&](const HttpResponse& response) {
    const S3ErrorBody body = parse_s3_error(response.body);
    std::string region = body.region;
    if (region.empty()) region = response.header("x-amz-bucket-region");
    net::AwsRefusal refused{body.code, refusal(options_, call, response.status, body, region), {}};
    if (body.code == "ConditionalRequestConflict") refused.retryable = true;
    return refused;
  };
  return client_.perform(make_request(call), call.accepted, explain, cancel);
}

}  // namespace reclo::store
