#include "image/chunk_cache.h"

namespace reclo::image {

ChunkCache::Acquired ChunkCache::acquire(const ChunkId& id, size_t size_bytes) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find(id);
    if (found != slots_.end() && found->second->size_ == size_bytes) {
      if (found->second->done_) recent_.splice(recent_.begin(), recent_, found->second->place_);
      return {found->second, false};
    }
  }
  auto slot = std::make_shared<Slot>();
  slot->id_ = id;
  slot->data_ = make_aligned_buffer(size_bytes);
  slot->size_ = size_bytes;
  const std::lock_guard lock(mutex_);
  const auto [entry, inserted] = slots_.try_emplace(id, slot);
  if (!inserted && entry->second->size_ == size_bytes) return {entry->second, false};
  // A map that gives one id two lengths is damaged; such a slot is not shared with anybody.
  return {std::move(slot), true};
}

void ChunkCache::publish(const std::shared_ptr<Slot>& slot, Status status) {
  const std::lock_guard lock(mutex_);
  RECLO_CHECK(!slot->done_);
  slot->done_ = true;
  if (!status.ok()) slot->error_ = status.error();
  const auto found = slots_.find(slot->id_);
  if (found != slots_.end() && found->second == slot) {
    if (slot->error_) {
      slots_.erase(found);
    } else {
      recent_.push_front(slot);
      slot->place_ = recent_.begin();
      used_bytes_ += slot->size_;
    }
  }
  while (used_bytes_ > size_bytes_max_ && recent_.size() > 1) {
    used_bytes_ -= recent_.back()->size_;
    slots_.erase(recent_.back()->id_);
    recent_.pop_back();
  }
  changed_.notify_all();
}

Status ChunkCache::wait(const Slot& slot, const CancelToken& cancel) {
  std::unique_lock lock(mutex_);
  const auto published = [&] { return slot.done_; };
  if (const auto deadline = cancel.deadline()) {
    changed_.wait_until(lock, cancel.stop_token(), *deadline, published);
  } else {
    changed_.wait(lock, cancel.stop_token(), published);
  }
  if (!slot.done_) return cancel.check();
  if (slot.error_) return *slot.error_;
  return {};
}

}  // namespace reclo::image
