#include "net/url.h"

#include <fmt/format.h>

#include <algorithm>

namespace reclo::net {
namespace {

bool is_unreserved(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.' || c == '~';
}

std::string encode(std::string_view text, bool keep_slash) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (is_unreserved(c) || (keep_slash && c == '/')) {
      out.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
  }
  return out;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string percent_encode(std::string_view text) { return encode(text, false); }
std::string percent_encode_path(std::string_view path) { return encode(path, true); }

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high = i + 1 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      return Error(Code::kInvalidArgument, fmt::format("not percent-encoded: '{}'", text));
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

std::string encode_query(const QueryPairs& pairs) {
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out.push_back('&');
    out += percent_encode(name) + "=" + percent_encode(value);
  }
  return out;
}

std::string Url::host() const {
  if (authority.starts_with('[')) return authority.substr(0, authority.find(']') + 1);
  return authority.substr(0, authority.find(':'));
}

std::string Url::text() const {
  return scheme + "://" + authority + path + (query.empty() ? "" : "?" + query);
}

Result<Url> parse_url(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return Error(Code::kInvalidArgument, fmt::format("'{}' is not a usable URL: {}", text, why));
  };
  Url url;
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("it must start with http:// or https://");
  url.scheme = text.substr(0, scheme_end);
  if (url.scheme != "http" && url.scheme != "https")
    return bad("it must start with http:// or https://");
  std::string_view rest = text.substr(scheme_end + 3);
  if (rest.find('#') != std::string_view::npos) return bad("it has a '#'");
  const size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  url.authority = rest.substr(0, authority_end);
  rest.remove_prefix(authority_end);
  if (url.authority.find('@') != std::string::npos) return bad("it holds a user name");
  const std::string own_port = url.scheme == "https" ? ":443" : ":80";
  if (url.authority.ends_with(own_port))
    url.authority.resize(url.authority.size() - own_port.size());
  if (url.host().empty()) return bad("it names no host");
  const size_t query_at = rest.find('?');
  url.path = rest.substr(0, query_at);
  if (url.path.empty()) url.path = "/";
  if (query_at != std::string_view::npos) url.query = rest.substr(query_at + 1);
  return url;
}

}  // namespace reclo::net
