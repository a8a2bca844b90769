#include "store/s3_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "net/digest.h"
#include "net/sigv4.h"
#include "store/s3_xml.h"

namespace reclo::store {

using net::HttpRequest;
using net::HttpResponse;

namespace {

constexpr auto kSkewWorthCorrecting = std::chrono::seconds(30);
constexpr auto kOutageToldAfter = std::chrono::seconds(10);

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

// What one call has tried so far.
struct S3Client::Attempts {
  bool clock_corrected = false;
  bool credentials_renewed = false;
  bool ambiguous = false;
  bool again_at_once = false;
};

Status check_s3_options(const S3Options& options) {
  const std::string& bucket = options.bucket;
  if (bucket.size() < 3 || bucket.size() > 255 || bucket.starts_with('.') ||
      !std::all_of(bucket.begin(), bucket.end(), is_bucket_character))
    return Error(Code::kInvalidArgument, fmt::format("'{}' cannot be a bucket's name", bucket));
  RECLO_TRY_WITH(net::parse_url(options.endpoint), "S3 endpoint");
  return {};
}

S3Client::S3Client(S3Options options, std::shared_ptr<net::CredentialsProvider> credentials)
    : options_(std::move(options)), credentials_(std::move(credentials)), http_(options_.http) {
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

Result<HttpResponse> S3Client::attempt(const S3Call& call, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const net::AwsCredentials credentials, credentials_->get(cancel));
  HttpRequest request = make_request(call);
  const WallTime service_time = wall_now() + std::chrono::milliseconds(clock_offset_ms_);
  RECLO_TRY(net::sign_aws_v4(request, credentials, {options_.region, "s3", service_time}));
  return http_.send(request, cancel);
}

bool S3Client::correct_clock(const HttpResponse& response) {
  if (!response.server_time) return false;
  const auto offset = *response.server_time - wall_now();
  const std::chrono::milliseconds before(clock_offset_ms_);
  if (std::chrono::abs(offset - before) < kSkewWorthCorrecting) return false;
  if (clock_offset_ms_.exchange(offset.count()) == 0)
    log_warning("this machine's clock is {} off the clock of {}; requests are dated by the latter",
                format_duration(std::chrono::abs(offset)), options_.endpoint);
  return true;
}

Error S3Client::failure_of(const S3Call& call, const HttpResponse& response, Attempts& attempts) {
  const S3ErrorBody body = parse_s3_error(response.body);
  std::string region = body.region;
  if (region.empty()) region = response.header("x-amz-bucket-region");
  Error error = refusal(options_, call, response.status, body, region);
  if (body.code == "RequestTimeTooSkewed" && !attempts.clock_corrected) {
    attempts.clock_corrected = attempts.again_at_once = correct_clock(response);
  } else if ((body.code == "ExpiredToken" || body.code == "TokenRefreshRequired") &&
             !attempts.credentials_renewed) {
    attempts.credentials_renewed = attempts.again_at_once = credentials_->forget();
  } else if (net::is_retryable_answer(response.status, body.code) ||
             body.code == "ConditionalRequestConflict") {
    if (response.status >= 500) attempts.ambiguous = true;
    return std::move(error).set_retryable(true);
  }
  return error;
}

Result<S3Answer> S3Client::perform(const S3Call& call, const CancelToken& cancel) {
  net::Retrier retrier(options_.retry, options_.endpoint);
  Attempts attempts;
  for (;;) {
    RECLO_TRY(cancel.check());
    Result<HttpResponse> response = attempt(call, cancel);
    if (response.ok()) {
      const int status = response->status;
      if ((status >= 200 && status < 300) ||
          std::find(call.accepted.begin(), call.accepted.end(), status) != call.accepted.end()) {
        if (outage_told_.exchange(false)) log_warning("{} answers again", options_.endpoint);
        return S3Answer{*std::move(response), attempts.ambiguous};
      }
    }
    attempts.again_at_once = false;
    if (!response.ok()) attempts.ambiguous = true;
    const Error failure =
        response.ok() ? failure_of(call, *response, attempts) : std::move(response).error();
    if (!failure.retryable() && !attempts.again_at_once) return failure;
    ++retries_;
    log_debug("{} of '{}': {}; trying again", call.method, call.key, failure.message());
    if (attempts.again_at_once) continue;
    // One line for all threads: somebody may sit before a bar that stands still.
    if (retrier.failing_for() >= kOutageToldAfter && !outage_told_.exchange(true))
      log_warning("{} does not answer ({}); going on as soon as it does, giving up after {}",
                  options_.endpoint, failure.message(), format_duration(options_.retry.patience));
    RECLO_TRY(retrier.wait_after(failure, cancel));
  }
}

}  // namespace reclo::store
