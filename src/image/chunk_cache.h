// Decoded chunks in memory: bounded, least recently used out first, and each chunk fetched by one
// caller only while the others wait for it.
//
// A caller that acquire() makes the owner of a chunk must publish() it, with bytes or with an
// error. Thread rule: every method is safe from any thread.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/aligned.h"
#include "base/cancel.h"
#include "base/ids.h"

namespace reclo::image {

class ChunkCache {
 public:
  /// One chunk's place. The bytes may be read once wait() returned success, by whoever holds it.
  class Slot {
   public:
    ByteSpan bytes() const { return {data_.get(), size_}; }
    /// For the owner, before publish().
    MutableByteSpan mutable_bytes() { return {data_.get(), size_}; }

   private:
    friend class ChunkCache;
    ChunkId id_;
    AlignedBuffer data_;
    size_t size_ = 0;
    bool done_ = false;
    std::optional<Error> error_;
    std::list<std::shared_ptr<Slot>>::iterator place_;  // valid while it is in recent_
  };
  struct Acquired {
    std::shared_ptr<Slot> slot;
    bool owner = false;
  };

  /// Bytes that readers hold, and those being fetched, come on top of `size_bytes_max`.
  explicit ChunkCache(uint64_t size_bytes_max) : size_bytes_max_(size_bytes_max) {}

  Acquired acquire(const ChunkId& id, size_t size_bytes);
  /// Ends an ownership. After an error the next acquire() tries again.
  void publish(const std::shared_ptr<Slot>& slot, Status status);
  /// Waits until the slot is published. Errors: the one published; kCancelled, kTimeout.
  Status wait(const Slot& slot, const CancelToken& cancel);

 private:
  const uint64_t size_bytes_max_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::unordered_map<ChunkId, std::shared_ptr<Slot>, IdHash<ChunkTag>> slots_;
  std::list<std::shared_ptr<Slot>> recent_;  // published ones, most recently used first
  uint64_t used_bytes_ = 0;                  // of recent_
};

}  // namespace reclo::image
