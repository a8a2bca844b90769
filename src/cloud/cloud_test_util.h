// A service that answers as a test says, and a client's options for it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "cloud/service.h"
#include "net/test_server.h"

namespace reclo::cloud::testing {

inline CancelToken test_limit() { return CancelToken().with_timeout(std::chrono::seconds(60)); }

/// Answers the n-th request with the n-th answer, the last one for ever.
class Script {
 public:
  explicit Script(std::vector<std::string> answers)
      : answers_(std::move(answers)), server_([this](const net::SeenRequest& request) {
          const std::lock_guard lock(mutex_);
          seen_.push_back(request);
          return answers_[std::min(seen_.size(), answers_.size()) - 1];
        }) {}

  ServiceOptions options() {
    ServiceOptions out;
    out.region = "eu-central-1";
    out.endpoint = server_.url();
    out.retry.first_delay = std::chrono::milliseconds(1);
    out.retry.delay_max = std::chrono::milliseconds(5);
    out.retry.patience = std::chrono::seconds(5);
    net::AwsCredentials credentials;
    credentials.access_key_id = "AKIATEST";
    credentials.secret_access_key = "secret";
    out.credentials = std::make_shared<net::CredentialsProvider>(credentials);
    out.meter = meter;
    return out;
  }
  std::vector<net::SeenRequest> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  const std::shared_ptr<RequestMeter> meter = std::make_shared<RequestMeter>();

 private:
  mutable std::mutex mutex_;
  const std::vector<std::string> answers_;
  std::vector<net::SeenRequest> seen_;
  net::TestServer server_;
};

inline std::string answer(int status, const std::string& body, const std::string& headers = "") {
  return net::TestServer::answer(status, body, headers);
}

}  // namespace reclo::cloud::testing
