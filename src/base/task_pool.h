// Threads come from here only.
//
// TaskPool: a fixed number of workers and a bounded queue. TaskGroup: tasks that belong together;
// the first error stops the group's token, and wait() returns it. A group may outlive none of its
// tasks: its destructor stops and waits. Tasks must not throw.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.h"

namespace reclo {

class TaskPool {
 public:
  explicit TaskPool(size_t threads, size_t queue_capacity = 1024);
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  /// Queues a task; blocks while the queue is full. Tasks queued before destruction all run.
  void run(std::function<void()> task);
  size_t thread_count() const { return threads_.size(); }

 private:
  void work();
  const size_t queue_capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

class TaskGroup {
 public:
  /// Stops when `parent` stops. The pool must have a free thread for each task that waits for
  /// another one of the group.
  TaskGroup(TaskPool& pool, const CancelToken& parent);
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  void spawn(std::function<Status()> task);
  /// Waits for all tasks. Returns the first error that any of them returned.
  Status wait();
  /// Fires when the parent does, a task failed, or stop() was called.
  CancelToken token() const;
  void stop() { stop_.request_stop(); }

 private:
  void finished(Status status);
  TaskPool& pool_;
  CancelToken parent_;
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> forward_stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t running_ = 0;
  std::optional<Error> first_error_;
};

/// The number of CPUs this process may use, at least 1.
size_t usable_cpu_count();

}  // namespace reclo
