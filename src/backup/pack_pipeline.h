// The end of the pipeline: chunks and nodes go into packs, packs go to the store in parallel.
//
// add_chunk() and add_node() come from one thread, in address order; uploads run on tasks of a
// group, behind a short queue. An upload failure stops the group. A pack's chunks enter the journal
// after the pack is stored. The queue's state drives the compression level: while uploads are
// behind, stronger compression is free; while they wait, the fastest level is.
#pragma once

#include <atomic>
#include <optional>

#include "backup/journal.h"
#include "backup/map_pack_cache.h"
#include "backup/statistics.h"
#include "base/channel.h"
#include "base/task_pool.h"
#include "repo/codec.h"
#include "repo/session.h"

namespace reclo::backup {

struct CompressionPolicy {
  int level_min = 1;
  int level_max = 9;
};

class PackPipeline {
 public:
  struct Parts {
    repo::SessionWriter* session = nullptr;
    Journal* journal = nullptr;
    MapPackCache* map_cache = nullptr;
    Statistics* statistics = nullptr;
    const crypto::ContentHasher* hasher = nullptr;
    std::string packs_prefix;  // object keys of this session's packs start so
  };
  /// Starts `upload_threads` tasks in `group`.
  PackPipeline(const Parts& parts, TaskGroup& group, size_t upload_threads,
               CompressionPolicy policy);

  Result<repo::SlotAddress> add_chunk(const ChunkId& id, uint16_t pages, ByteSpan payload,
                                      uint16_t disk_index, uint64_t segment_index);
  Result<repo::NodeRef> add_node(ByteSpan node);
  /// Sends the last packs and lets the uploaders end; then wait on the group.
  Status finish();
  std::atomic<int>& compression_level() { return compression_level_; }

 private:
  struct Job {
    repo::SealedPack pack;
    std::vector<JournaledChunk> chunks;
  };
  Status upload_loop();
  Status send(repo::PackBuilder builder, std::vector<JournaledChunk> chunks);
  void adapt_level();

  const Parts parts_;
  TaskGroup& group_;
  const CompressionPolicy policy_;
  Channel<Job> jobs_;
  std::atomic<int> compression_level_;
  std::optional<repo::PackBuilder> data_;
  std::vector<JournaledChunk> data_chunks_;
  std::optional<repo::PackBuilder> map_;
  repo::Compressor compressor_;
};

}  // namespace reclo::backup
