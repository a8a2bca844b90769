#include "cloud/query_client.h"

#include "cloud/xml.h"

namespace reclo::cloud {
namespace {

constexpr uint64_t kAnswerSizeBytesMax = uint64_t{32} << 20;

// EC2: <Response><Errors><Error>…; STS: <ErrorResponse><Error>…
std::pair<std::string, std::string> parse_error(ByteSpan body) {
  const auto document = parse_xml(body, "an error");
  if (!document.ok()) return {};
  const pugi::xml_node root = (*document)->document_element();
  pugi::xml_node error = root.child("Error");
  if (!error) error = root.child("Errors").child("Error");
  return {error.child("Code").text().get(), error.child("Message").text().get()};
}

}  // namespace

QueryClient::QueryClient(std::string service, std::string version, const ServiceOptions& options,
                         uint64_t requests_per_second_max)
    : name_(service),
      version_(std::move(version)),
      service_(std::move(service), options,
               std::make_shared<net::AdaptiveRate>(requests_per_second_max)) {}

Result<Bytes> QueryClient::call(const std::string& action, net::QueryPairs parameters,
                                const CancelToken& cancel) {
  parameters.insert(parameters.begin(), {{"Action", action}, {"Version", version_}});
  const std::string body = net::encode_query(parameters);
  net::HttpRequest request;
  request.method = "POST";
  request.url = "/";
  request.headers = {{"content-type", "application/x-www-form-urlencoded; charset=utf-8"}};
  request.body = as_bytes(body);
  request.response_size_bytes_max = kAnswerSizeBytesMax;
  const std::string named = name_ + ":" + action;
  const auto explain = [&](const net::HttpResponse& response) {
    auto [code, message] = parse_error(response.body);
    return word_refusal(service_.options(), named, response.status, std::move(code),
                        std::move(message));
  };
  RECLO_ASSIGN_OR_RETURN(net::HttpResponse response,
                         service_.send(std::move(request), named, explain, cancel));
  return std::move(response.body);
}

}  // namespace reclo::cloud
