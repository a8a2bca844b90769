// The on-disk index of a machine's chunks by identity: finds content that is already stored when it
// turns up at another place of the disk.
//
// A hash table in a memory-mapped file (48 bytes an entry: 300-600 MB a TiB of unique data),
// with a bloom filter of 8 bits a slot in RAM in front: a miss, the usual case, touches no disk.
// Entries are hints, since an index may be older or newer than the parent point:
//  - an entry of the current run gives the chunk's address: its pack belongs to this session;
//  - any other entry gives only the place (disk, segment) where the content was seen; the caller
//  looks
//    there in the parent's map, which is what this session has pinned.
// A damaged or lost file costs upload, never correctness: entries carry a checksum.
// Thread rule: safe from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "os/file.h"
#include "repo/address.h"

namespace reclo::backup {

struct ChunkPlace {
  uint16_t disk_index = 0;
  uint32_t segment_index = 0;
  /// Set when this run stored it (or resumed with it).
  std::optional<repo::ChunkRef> stored;
};

class ChunkIndex {
 public:
  /// Opens or creates. `session` is the one this run writes; entries of earlier runs become hints.
  static Result<std::unique_ptr<ChunkIndex>> open(const std::string& path,
                                                  const SessionId& session);
  ~ChunkIndex();
  ChunkIndex(const ChunkIndex&) = delete;
  ChunkIndex& operator=(const ChunkIndex&) = delete;

  std::optional<ChunkPlace> find(const ChunkId& id) const;
  /// Adds or replaces. An index that cannot grow (disk full) silently stops learning.
  void insert(const repo::ChunkRef& chunk, uint16_t disk_index, uint64_t segment_index);
  uint64_t entry_count() const;

 private:
  ChunkIndex(std::string path, const SessionId& session);
  Status map_file(uint64_t capacity, bool fresh);
  Status grow();
  void rebuild_filter();
  void place(const uint8_t* entry);
  bool filter_may_have(const ChunkId& id) const;
  void filter_add(const ChunkId& id);

  const std::string path_;
  const SessionId session_;
  mutable std::mutex mutex_;
  os::Fd fd_;
  uint8_t* memory_ = nullptr;
  size_t memory_size_ = 0;
  uint64_t capacity_ = 0;
  uint64_t count_ = 0;
  uint32_t epoch_ = 0;
  bool full_ = false;
  std::vector<uint64_t> filter_;
};

}  // namespace reclo::backup
