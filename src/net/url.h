// URLs: percent-encoding as AWS signatures want it, taking apart and putting together.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace reclo::net {

/// Encodes everything but A-Z a-z 0-9 - _ . ~ as %XX with upper-case digits (RFC 3986 unreserved).
std::string percent_encode(std::string_view text);
/// The same, but leaves '/' as it is.
std::string percent_encode_path(std::string_view path);
/// Errors: kInvalidArgument for a '%' without two hex digits.
Result<std::string> percent_decode(std::string_view text);

/// Name and value, not encoded.
using QueryPairs = std::vector<std::pair<std::string, std::string>>;
/// "a=1&b=%2F"; a pair without value keeps its '=' ("delete=").
std::string encode_query(const QueryPairs& pairs);

/// "https://host:8443/path?query" in its parts; path and query as written, that is, encoded.
struct Url {
  std::string scheme;     // "http" or "https"
  std::string authority;  // "host" or "host:port"; the port is left out when it is the scheme's own
  std::string path;       // begins with '/'
  std::string query;      // without '?'

  std::string host() const;
  std::string text() const;
};

/// Errors: kInvalidArgument for another scheme, user names, fragments, or no host.
Result<Url> parse_url(std::string_view text);

}  // namespace reclo::net
