#include "net/aws_client.h"

#include <algorithm>
#include <string_view>

#include "base/log.h"
#include "base/units.h"
#include "net/sigv4.h"

namespace reclo::net {
namespace {

constexpr auto kSkewWorthCorrecting = std::chrono::seconds(30);
constexpr auto kOutageToldAfter = std::chrono::seconds(10);

bool says_clock_is_wrong(std::string_view code) {
  return code == "RequestTimeTooSkewed" || code == "RequestExpired" ||
         code == "InvalidSignatureException";
}

bool is_throttling(std::string_view code) {
  return code.find("Throttl") != std::string_view::npos || code == "SlowDown" ||
         code == "RequestLimitExceeded" || code == "TooManyRequestsException";
}

bool says_credentials_expired(std::string_view code) {
  return code == "ExpiredToken" || code == "TokenRefreshRequired" ||
         code == "ExpiredTokenException";
}

}  // namespace

// What one call has tried so far.
struct AwsClient::Attempts {
  bool clock_corrected = false;
  bool credentials_renewed = false;
  bool ambiguous = false;
  bool again_at_once = false;
};

AwsClient::AwsClient(AwsClientOptions options, std::shared_ptr<CredentialsProvider> credentials)
    : options_(std::move(options)), credentials_(std::move(credentials)), http_(options_.http) {}

Result<HttpResponse> AwsClient::attempt(const HttpRequest& request, const CancelToken& cancel) {
  if (options_.rate) RECLO_TRY(options_.rate->take(cancel));
  RECLO_ASSIGN_OR_RETURN(const AwsCredentials credentials, credentials_->get(cancel));
  HttpRequest copy = request;
  const WallTime service_time = wall_now() + std::chrono::milliseconds(clock_offset_ms_);
  RECLO_TRY(sign_aws_v4(copy, credentials, {options_.region, options_.service, service_time}));
  return http_.send(copy, cancel);
}

bool AwsClient::correct_clock(const HttpResponse& response) {
  if (!response.server_time) return false;
  const auto offset = *response.server_time - wall_now();
  const std::chrono::milliseconds before(clock_offset_ms_);
  if (std::chrono::abs(offset - before) < kSkewWorthCorrecting) return false;
  if (clock_offset_ms_.exchange(offset.count()) == 0)
    log_warning("this machine's clock is {} off the clock of {}; requests are dated by the latter",
                format_duration(std::chrono::abs(offset)), options_.endpoint);
  return true;
}

Error AwsClient::failure_of(const HttpResponse& response, const Explain& explain,
                            Attempts& attempts) {
  AwsRefusal refusal = explain(response);
  if (says_clock_is_wrong(refusal.code) && !attempts.clock_corrected) {
    attempts.clock_corrected = attempts.again_at_once = correct_clock(response);
  } else if (says_credentials_expired(refusal.code) && !attempts.credentials_renewed) {
    attempts.credentials_renewed = attempts.again_at_once = credentials_->forget();
  } else if (refusal.retryable.value_or(is_retryable_answer(response.status, refusal.code))) {
    if (options_.rate && is_throttling(refusal.code)) options_.rate->throttled();
    if (response.status >= 500) attempts.ambiguous = true;
    return std::move(refusal.error).set_retryable(true);
  }
  return std::move(refusal.error);
}

Result<AwsAnswer> AwsClient::perform(const HttpRequest& request, const std::vector<int>& accepted,
                                     const Explain& explain, const CancelToken& cancel) {
  Retrier retrier(options_.retry, options_.endpoint);
  Attempts attempts;
  for (;;) {
    RECLO_TRY(cancel.check());
    Result<HttpResponse> response = attempt(request, cancel);
    if (response.ok()) {
      const int status = response->status;
      if ((status >= 200 && status < 300) ||
          std::find(accepted.begin(), accepted.end(), status) != accepted.end()) {
        if (options_.rate) options_.rate->succeeded();
        if (outage_told_.exchange(false)) log_warning("{} answers again", options_.endpoint);
        return AwsAnswer{*std::move(response), attempts.ambiguous};
      }
    }
    attempts.again_at_once = false;
    if (!response.ok()) attempts.ambiguous = true;
    const Error failure =
        response.ok() ? failure_of(*response, explain, attempts) : std::move(response).error();
    if (!failure.retryable() && !attempts.again_at_once) return failure;
    ++retries_;
    log_debug("{} of {}: {}; trying again", request.method, options_.endpoint, failure.message());
    if (attempts.again_at_once) continue;
    // One line for all threads: somebody may sit before a bar that stands still.
    if (retrier.failing_for() >= kOutageToldAfter && !outage_told_.exchange(true))
      log_warning("{} does not answer ({}); going on as soon as it does, giving up after {}",
                  options_.endpoint, failure.message(), format_duration(options_.retry.patience));
    RECLO_TRY(retrier.wait_after(failure, cancel));
  }
}

}  // namespace reclo::net
