// What was asked of the cloud, for the bill: requests by service and action. Safe from any thread.
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace reclo::cloud {

class RequestMeter {
 public:
  /// `action` with its service: "ebs:PutSnapshotBlock".
  void count(const std::string& action) {
    const std::lock_guard lock(mutex_);
    ++requests_[action];
  }
  std::map<std::string, uint64_t> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> requests_;
};

}  // namespace reclo::cloud
