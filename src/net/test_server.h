// A small HTTP server on loopback for tests: what it answers, down to the bytes and the closing of
// the connection, is up to the test. One thread per connection; ends with the object.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace reclo::net {

struct SeenRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;
};

class TestServer {
 public:
  /// Returns the raw answer; empty closes the connection without one. An answer that ends in
  /// kThenClose is followed by closing.
  using Handler = std::function<std::string(const SeenRequest&)>;
  static constexpr std::string_view kThenClose = "<close>";

  explicit TestServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    RECLO_CHECK(::bind(listener_, generic, size) == 0 && ::listen(listener_, 64) == 0);
    RECLO_CHECK(::getsockname(listener_, generic, &size) == 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    acceptor_ = std::jthread([this] { accept_all(); });
  }
  ~TestServer() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    threads_.clear();
    ::close(listener_);
  }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  const std::string& url() const { return url_; }
  int connections() const { return connections_; }

  static std::string answer(int status, const std::string& body, const std::string& headers = "") {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

 private:
  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }
  void serve(int fd) {
    std::string buffer;
    while (read_request_and_answer(fd, buffer)) continue;
    ::shutdown(fd, SHUT_RDWR);
    const std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    ::close(fd);
  }
  static bool fill(int fd, std::string& buffer) {
    char piece[65536];
    const ssize_t got = ::recv(fd, piece, sizeof piece, 0);
    if (got > 0) buffer.append(piece, static_cast<size_t>(got));
    return got > 0;
  }
  bool read_request_and_answer(int fd, std::string& buffer) {
    size_t head_end = 0;
    while ((head_end = buffer.find("\r\n\r\n")) == std::string::npos)
      if (!fill(fd, buffer)) return false;
    SeenRequest request;
    const std::string head = buffer.substr(0, head_end + 2);
    buffer.erase(0, head_end + 4);
    size_t line_end = head.find("\r\n");
    const std::string first = head.substr(0, line_end);
    request.method = first.substr(0, first.find(' '));
    request.target = first.substr(request.method.size() + 1);
    request.target.resize(request.target.find(' '));
    for (size_t at = line_end + 2; at < head.size(); at = line_end + 2) {
      line_end = head.find("\r\n", at);
      const size_t colon = head.find(':', at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(::tolower(c));
      const size_t value = head.find_first_not_of(' ', colon + 1);
      request.headers[name] = head.substr(value, line_end - value);
    }
    const auto length = request.headers.find("content-length");
    const size_t body_bytes = length == request.headers.end() ? 0 : std::stoul(length->second);
    while (buffer.size() < body_bytes)
      if (!fill(fd, buffer)) return false;
    request.body = buffer.substr(0, body_bytes);
    buffer.erase(0, body_bytes);
    std::string out = handler_(request);
    const bool close_after = out.ends_with(kThenClose);
    if (close_after) out.resize(out.size() - kThenClose.size());
    size_t sent = 0;
    while (sent < out.size()) {
      const ssize_t put = ::send(fd, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) return false;
      sent += static_cast<size_t>(put);
    }
    return !out.empty() && !close_after;
  }

  Handler handler_;
  int listener_ = -1;
  std::string url_;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::jthread> threads_;
  std::jthread acceptor_;
};

}  // namespace reclo::net
