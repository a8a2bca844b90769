// Hands out numbered jobs to parallel workers and takes their results back in order, with a bounded
// number in flight: the bound is what fixes the pipeline's memory.
// Thread rule: safe from any thread; take() from one.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "base/cancel.h"

namespace reclo::backup {

template <class T>
class OrderedWindow {
 public:
  OrderedWindow(uint64_t job_count, uint64_t window) : job_count_(job_count), window_(window) {}

  /// The next job number; nothing when all are handed out or the token fired.
  std::optional<uint64_t> next_job(const CancelToken& cancel) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, cancel.stop_token(),
                  [&] { return next_job_ >= job_count_ || next_job_ < next_result_ + window_; });
    if (next_job_ >= job_count_ || cancel.fired()) return std::nullopt;
    return next_job_++;
  }
  void put(uint64_t job, T result) {
    std::lock_guard lock(mutex_);
    results_.emplace(job, std::move(result));
    changed_.notify_all();
  }
  /// The next result in order; nothing after the last one or when the token fired.
  std::optional<T> take(const CancelToken& cancel) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, cancel.stop_token(),
                  [&] { return next_result_ >= job_count_ || results_.contains(next_result_); });
    if (next_result_ >= job_count_ || cancel.fired()) return std::nullopt;
    const auto found = results_.find(next_result_);
    T result = std::move(found->second);
    results_.erase(found);
    ++next_result_;
    changed_.notify_all();
    return result;
  }

 private:
  const uint64_t job_count_;
  const uint64_t window_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<uint64_t, T> results_;
  uint64_t next_job_ = 0;
  uint64_t next_result_ = 0;
};

}  // namespace reclo::backup
