#include "cloud/quotas_client.h"

#include <fmt/format.h>

#include <cmath>

#include "base/json.h"

namespace reclo::cloud {
namespace {

constexpr uint64_t kRequestsPerSecond = 5;
constexpr uint64_t kAnswerSizeBytesMax = uint64_t{1} << 20;
constexpr const char* kAction = "servicequotas:GetServiceQuota";

// {"__type": "com.amazonaws…#NoSuchResourceException", "Message": …}; the type may stand in a
// header instead.
std::pair<std::string, std::string> parse_error(const net::HttpResponse& response) {
  std::string type(response.header("x-amzn-errortype"));
  std::string message;
  const auto json = parse_json(as_text(response.body), "an error of Service Quotas");
  if (json.ok() && json->is_object()) {
    if (auto text = json_get<std::string>(*json, "__type"); text.ok() && type.empty()) type = *text;
    for (const char* name : {"Message", "message"})
      if (auto text = json_get<std::string>(*json, name); text.ok()) message = *text;
  }
  type = type.substr(0, type.find(':'));
  const size_t hash = type.rfind('#');
  return {hash == std::string::npos ? type : type.substr(hash + 1), message};
}

}  // namespace

bool is_standard_type(std::string_view instance_type) {
  // "inf2", "trn1", "dl1", "mac2", "hpc7a", "u-6tb1", "vt1" have quotas of their own.
  const std::string_view family = instance_type.substr(0, instance_type.find('.'));
  for (const std::string_view other : {"inf", "trn", "dl", "mac", "hpc", "vt"})
    if (family.starts_with(other)) return false;
  return !family.empty() &&
         std::string_view("acdhimrtz").find(family.front()) != std::string_view::npos;
}

Result<double> parse_quota(std::string_view json) {
  RECLO_ASSIGN_OR_RETURN(const Json answer, parse_json(json, kAction, kAnswerSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN(const Json* quota, json_object(answer, "Quota"));
  RECLO_ASSIGN_OR_RETURN(const double value, json_get<double>(*quota, "Value"));
  if (!std::isfinite(value) || value < 0)
    return Error(Code::kUnavailable, fmt::format("{} answered a quota of {}", kAction, value));
  return value;
}

QuotasClient::QuotasClient(const ServiceOptions& options)
    : service_("servicequotas", options, std::make_shared<net::AdaptiveRate>(kRequestsPerSecond)) {}

Result<double> QuotasClient::quota(const std::string& service, const std::string& code,
                                   const CancelToken& cancel) {
  const std::string body = dump_json({{"ServiceCode", service}, {"QuotaCode", code}});
  net::HttpRequest request;
  request.method = "POST";
  request.url = "/";
  request.headers = {{"content-type", "application/x-amz-json-1.1"},
                     {"x-amz-target", "ServiceQuotasV20190624.GetServiceQuota"}};
  request.body = as_bytes(body);
  request.response_size_bytes_max = kAnswerSizeBytesMax;
  const auto explain = [&](const net::HttpResponse& response) {
    auto [type, message] = parse_error(response);
    if (type == "NoSuchResourceException") type = "Quota.NotFound";
    return word_refusal(service_.options(), kAction, response.status, std::move(type),
                        std::move(message));
  };
  RECLO_ASSIGN_OR_RETURN(const net::HttpResponse response,
                         service_.send(std::move(request), kAction, explain, cancel));
  return parse_quota(as_text(response.body));
}

}  // namespace reclo::cloud
