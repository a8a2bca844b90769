#include "base/task_pool.h"

#include <sched.h>

#include <algorithm>

namespace reclo {

TaskPool::TaskPool(size_t threads, size_t queue_capacity) : queue_capacity_(queue_capacity) {
  RECLO_CHECK(threads > 0);
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

TaskPool::~TaskPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  threads_.clear();  // joins
}

void TaskPool::run(std::function<void()> task) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.size() < queue_capacity_; });
    queue_.push_back(std::move(task));
  }
  changed_.notify_all();
}

void TaskPool::work() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    changed_.notify_all();
    task();
  }
}

TaskGroup::TaskGroup(TaskPool& pool, const CancelToken& parent)
    : pool_(pool),
      parent_(parent),
      forward_stop_(parent.stop_token(), [this] { stop_.request_stop(); }) {}

TaskGroup::~TaskGroup() {
  stop_.request_stop();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return running_ == 0; });
}

CancelToken TaskGroup::token() const {
  CancelToken token(stop_.get_token());
  if (const auto deadline = parent_.deadline()) {
    const auto left = *deadline - std::chrono::steady_clock::now();
    return token.with_timeout(std::chrono::duration_cast<std::chrono::milliseconds>(left));
  }
  return token;
}

void TaskGroup::spawn(std::function<Status()> task) {
  {
    std::lock_guard lock(mutex_);
    ++running_;
  }
  pool_.run([this, task = std::move(task)] { finished(task()); });
}

void TaskGroup::finished(Status status) {
  if (!status.ok()) {
    // The cause is noted before the others are stopped: what they then return is its effect.
    {
      std::lock_guard lock(mutex_);
      if (!first_error_) first_error_ = status.error();
    }
    stop_.request_stop();
  }
  // Notify under the lock: wait() may destroy this group as soon as it sees running_ == 0.
  std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

Status TaskGroup::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return running_ == 0; });
  if (first_error_) return *first_error_;
  return {};
}

size_t usable_cpu_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace reclo
