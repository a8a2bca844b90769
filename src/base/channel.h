// A bounded queue between pipeline stages. push() blocks while it is full, pop() while it is empty.
// close() lets readers drain what is left; abort() (or the token) makes everyone return at once.
// Safe from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "base/cancel.h"

namespace reclo {

template <class T>
class Channel {
 public:
  explicit Channel(size_t capacity) : capacity_(capacity) {}

  /// False when the channel was closed or aborted, or the token fired: `item` is then dropped.
  bool push(T item, const CancelToken& cancel) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, cancel.stop_token(), [&] { return closed_ || items_.size() < capacity_; });
    if (closed_ || cancel.fired()) return false;
    items_.push_back(std::move(item));
    changed_.notify_all();
    return true;
  }
  /// Nothing when the channel is closed and drained, aborted, or the token fired.
  std::optional<T> pop(const CancelToken& cancel) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, cancel.stop_token(), [&] { return closed_ || !items_.empty(); });
    if (items_.empty() || cancel.fired()) return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    changed_.notify_all();
    return item;
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  void abort() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    items_.clear();
    changed_.notify_all();
  }
  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }
  size_t capacity() const { return capacity_; }

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace reclo
