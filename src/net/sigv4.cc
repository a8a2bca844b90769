#include "net/sigv4.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>

#include "base/encoding.h"
#include "net/digest.h"
#include "net/url.h"

namespace reclo::net {
namespace {

// "20261123T070509Z"
std::string basic_time(WallTime time) {
  const time_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc)};
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// Runs of spaces become one, none at the ends.
std::string squash_spaces(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    out.push_back(c);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

bool is_signed(const std::string& name) {
  return name.starts_with("x-amz-") || name == "content-md5" || name == "content-type" ||
         name == "if-none-match";
}

// Sorted by (encoded name, encoded value), which is not the order of the joined "name=value".
std::string canonical_query(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    const size_t equals = std::min(pair.find('='), pair.size());
    pairs.emplace_back(pair.substr(0, equals),
                       equals < pair.size() ? pair.substr(equals + 1) : std::string_view());
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  std::sort(pairs.begin(), pairs.end());
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out.push_back('&');
    out += name + "=" + value;
  }
  return out;
}

struct CanonicalHeaders {
  std::string lines;
  std::string names;
};

CanonicalHeaders canonical_headers(const HttpRequest& request, const std::string& host) {
  std::map<std::string, std::string> sorted{{"host", host}};
  for (const auto& [name, value] : request.headers)
    if (std::string lower = lower_case(name); is_signed(lower))
      sorted[std::move(lower)] = squash_spaces(value);
  CanonicalHeaders out;
  for (const auto& [name, value] : sorted) {
    out.lines += name + ":" + value + "\n";
    out.names += (out.names.empty() ? "" : ";") + name;
  }
  return out;
}

Sha256 signing_key(const std::string& secret, const std::string& day, const SigningScope& scope) {
  Sha256 key = hmac_sha256(as_bytes("AWS4" + secret), as_bytes(day));
  for (const std::string_view part :
       {std::string_view(scope.region), std::string_view(scope.service),
        std::string_view("aws4_request")})
    key = hmac_sha256(key, as_bytes(part));
  return key;
}

}  // namespace

Status sign_aws_v4(HttpRequest& request, const AwsCredentials& credentials,
                   const SigningScope& scope) {
  RECLO_ASSIGN_OR_RETURN(const Url url, parse_url(request.url));
  const std::string time = basic_time(scope.time);
  const std::string day = time.substr(0, 8);
  std::string body_hash(request.header("x-amz-content-sha256"));
  if (body_hash.empty()) {
    body_hash = to_hex(sha256(request.body));
    request.headers.emplace_back("x-amz-content-sha256", body_hash);
  }
  request.headers.emplace_back("x-amz-date", time);
  if (!credentials.session_token.empty())
    request.headers.emplace_back("x-amz-security-token", credentials.session_token);

  const CanonicalHeaders headers = canonical_headers(request, url.authority);
  // S3 takes the path as it is on the wire; all other services encode it once more.
  const std::string path = scope.service == "s3" ? url.path : percent_encode_path(url.path);
  const std::string canonical = request.method + "\n" + path + "\n" + canonical_query(url.query) +
                                "\n" + headers.lines + "\n" + headers.names + "\n" + body_hash;
  const std::string full_scope =
      fmt::format("{}/{}/{}/aws4_request", day, scope.region, scope.service);
  const std::string to_sign = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", time, full_scope,
                                          to_hex(sha256(as_bytes(canonical))));
  const Sha256 key = signing_key(credentials.secret_access_key, day, scope);
  request.headers.emplace_back(
      "Authorization",
      fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
                  credentials.access_key_id, full_scope, headers.names,
                  to_hex(hmac_sha256(key, as_bytes(to_sign)))));
  return {};
}

}  // namespace reclo::net
