#include "cloud/service.h"

#include <fmt/format.h>

namespace reclo::cloud {
namespace {

constexpr size_t kSaidSizeMax = 600;

net::AwsClientOptions client_options(const std::string& name, const ServiceOptions& options,
                                     std::shared_ptr<net::AdaptiveRate> rate) {
  net::AwsClientOptions out;
  out.region = options.region;
  out.endpoint =
      options.endpoint.empty() ? default_endpoint(name, options.region) : options.endpoint;
  while (out.endpoint.ends_with('/')) out.endpoint.pop_back();
  out.service = name;
  out.retry = options.retry;
  out.http = options.http;
  out.rate = std::move(rate);
  return out;
}

bool is_denied(std::string_view code) {
  return code == "UnauthorizedOperation" || code == "AccessDenied" ||
         code == "AccessDeniedException" || code == "UnauthorizedException";
}

bool is_bad_credential(std::string_view code) {
  return code == "AuthFailure" || code == "InvalidClientTokenId" ||
         code == "UnrecognizedClientException" || code == "SignatureDoesNotMatch" ||
         code == "InvalidSignatureException" || code == "MissingAuthenticationToken" ||
         code == "IncompleteSignature";
}

bool is_expired(std::string_view code) {
  return code == "ExpiredToken" || code == "ExpiredTokenException" || code == "RequestExpired";
}

bool is_quota(std::string_view code) {
  return code == "VcpuLimitExceeded" || code == "ServiceQuotaExceededException" ||
         code == "ConcurrentLimitExceededException" || code == "SnapshotLimitExceeded" ||
         code.ends_with("LimitExceeded");
}

bool is_no_capacity(std::string_view code) {
  return code == "InsufficientInstanceCapacity" || code == "InsufficientHostCapacity" ||
         code == "Unsupported";
}

Code code_of(int status, std::string_view code) {
  if (code.ends_with(".NotFound") || code == "ResourceNotFoundException" ||
      code.ends_with(".Unavailable"))
    return Code::kNotFound;
  if (code.ends_with(".Duplicate") || code.ends_with("AlreadyExists")) return Code::kAlreadyExists;
  if (code.starts_with("Incorrect") || code == "ConflictException" || code.ends_with(".InUse") ||
      code == "DependencyViolation" || code == "IdempotentParameterMismatch")
    return Code::kConflict;
  if (status >= 500) return Code::kUnavailable;
  return Code::kInvalidArgument;
}

}  // namespace

std::string default_endpoint(std::string_view service, std::string_view region) {
  return fmt::format("https://{}.{}.amazonaws.com{}", service, region,
                     region.starts_with("cn-") ? ".cn" : "");
}

net::AwsRefusal word_refusal(const net::AwsClientOptions& client, std::string_view action,
                             int status, std::string code, std::string message) {
  if (message.size() > kSaidSizeMax) message.resize(kSaidSizeMax);
  const std::string said = fmt::format("{}{}{}{}{}", status, code.empty() ? "" : " ", code,
                                       message.empty() ? "" : ": ", message);
  const auto refused = [&](Code kind, const std::string& words) {
    return net::AwsRefusal{code, Error(kind, words), {}};
  };
  if (is_denied(code))
    return refused(
        Code::kPermissionDenied,
        fmt::format(
            "the credentials may not {0}: add {{\"Effect\": \"Allow\", \"Action\": \"{0}\", "
            "\"Resource\": \"*\"}} to their policy ({1} in {2} said {3})",
            action, client.endpoint, client.region, said));
  if (is_expired(code))
    return refused(Code::kUnauthenticated,
                   fmt::format("the credentials for {} have expired, or this machine's clock is "
                               "wrong ({})",
                               client.endpoint, said));
  if (is_bad_credential(code))
    return refused(Code::kUnauthenticated,
                   fmt::format("{} does not accept the credentials: check the access key, its "
                               "secret, and the region {} ({})",
                               client.endpoint, client.region, said));
  const std::string words = fmt::format("{} in {}: {}", action, client.region, said);
  if (is_no_capacity(code)) {
    net::AwsRefusal out = refused(Code::kResourceExhausted, words);
    out.retryable = false;  // another type or zone may have room; this one will not at once
    return out;
  }
  // Throttling is no quota: RequestLimitExceeded means the same again later.
  if (is_quota(code) && !net::is_retryable_answer(status, code))
    return refused(Code::kResourceExhausted, words);
  return refused(code_of(status, code), words);
}

Service::Service(std::string name, const ServiceOptions& options,
                 std::shared_ptr<net::AdaptiveRate> rate)
    : client_(client_options(name, options, std::move(rate)), options.credentials),
      meter_(options.meter) {}

Result<net::HttpResponse> Service::send(net::HttpRequest request, std::string_view action,
                                        const net::AwsClient::Explain& explain,
                                        const CancelToken& cancel) {
  if (meter_) meter_->count(std::string(action));
  request.url = client_.options().endpoint + request.url;
  RECLO_ASSIGN_OR_RETURN(net::AwsAnswer answer, client_.perform(request, {}, explain, cancel));
  return std::move(answer.response);
}

}  // namespace reclo::cloud
