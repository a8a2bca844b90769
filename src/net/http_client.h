// An HTTP/1.1 client for services: whole requests and whole, bounded answers, over kept-alive
// connections.
//
// send() blocks its caller and is safe from any number of threads; each call in flight has a
// connection of its own, up to connections_max, and finished ones are kept for the next caller.
// A firing CancelToken ends a call at once. Redirects are not followed; nothing is retried here
// (net/retry.h), but transport errors say through retryable() whether that makes sense.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/result.h"
#include "base/time.h"

namespace reclo::net {

struct HttpRequest {
  std::string method = "GET";
  std::string url;  // percent-encoded; sent exactly as written
  std::vector<std::pair<std::string, std::string>> headers;
  ByteSpan body;  // must live until send() returns
  uint64_t response_size_bytes_max = 16 << 20;
  /// Called now and then from send() with what was sent and received so far.
  std::function<void(uint64_t sent_bytes, uint64_t received_bytes)> on_progress;

  /// The header's value; empty when it is not set. `name` in lower case.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case; repeated ones joined by ", "
  Bytes body;
  std::optional<WallTime> server_time;  // the Date header

  /// The header's value; empty when it was not sent. `name` in lower case.
  std::string_view header(std::string_view name) const;
};

struct HttpClientOptions {
  std::chrono::milliseconds connect_timeout{10'000};
  /// Longest time without any byte in either direction.
  std::chrono::milliseconds stall_timeout{30'000};
  size_t connections_max = 32;
  /// PEM file of trusted authorities. Empty: RECLO_CA_FILE, AWS_CA_BUNDLE, then the system's.
  std::string ca_file;
  /// Ignores http_proxy and its kin: for addresses of this machine and its cloud.
  bool bypass_proxy = false;
};

/// "Mon, 23 Nov 2026 07:05:09 GMT".
std::optional<WallTime> parse_http_date(const std::string& text);

class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Any HTTP status is success here. Errors: kUnavailable and kTimeout (retryable: not reached,
  /// cut, stalled, answer truncated), kUnauthenticated (the server's certificate is not trusted),
  /// kResourceExhausted (answer larger than allowed), kInvalidArgument, kCancelled.
  Result<HttpResponse> send(const HttpRequest& request, const CancelToken& cancel);

 private:
  class Connection;
  class Pool;
  HttpClientOptions options_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace reclo::net
