// One disk of one recovery point as a random-access block device: the heart of instant recovery.
//
//   read_at ──► leaf (MapReader) ──► chunks ──► in memory? ──► copy out
//                                                  │ no: ranged GETs, grouped by pack, in parallel
//                                                  ▼
//                                          open, decode, verify (SlotReader)
//
// Invariants:
//  1. Every byte returned was authenticated and hashed, or is an explicit hole.
//  2. Concurrent readers of one chunk fetch it once.
//  3. Memory is bounded: the chunk cache, plus one segment for each reading thread, plus
//     (fetch + read-ahead threads) × kFetchSizeBytesMax while they fetch.
// Thread rule: every method is safe from any thread; each blocks until done or cancelled.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/task_pool.h"
#include "disk/block_source.h"
#include "image/chunk_cache.h"
#include "image/chunk_fetch.h"
#include "image/read_ahead.h"
#include "repo/map_reader.h"

namespace reclo::image {

struct BlockImageOptions {
  uint64_t cache_size_bytes = 64 * kMiB;  // decoded chunks
  size_t fetch_threads = 8;  // beside the calling threads, for reads from several packs
  size_t read_ahead_threads = 4;
  uint32_t read_ahead_segments_max = 8;  // 0: none
};

/// A run of the disk that holds data, or reads as zeros.
struct Run {
  disk::Range range;
  bool is_data = false;
  bool operator==(const Run&) const = default;
};

struct BlockImageCounters {
  uint64_t fetched_chunks = 0;
  uint64_t fetched_bytes = 0;  // as stored
  uint64_t requests = 0;
};

class BlockImage {
 public:
  /// `maps` must outlive this.
  BlockImage(repo::MapReader& maps, const repo::DiskRecord& disk, const BlockImageOptions& options);
  ~BlockImage();
  BlockImage(const BlockImage&) = delete;
  BlockImage& operator=(const BlockImage&) = delete;

  uint64_t size_bytes() const { return size_bytes_; }

  /// Fills `out`; any alignment. Errors: kInvalidArgument past the end; kCorruption and kNotFound
  /// name the damaged or missing object; the store's errors.
  Status read_at(uint64_t offset_bytes, MutableByteSpan out, const CancelToken& cancel);

  /// What is data and what reads as zeros from the start of `range` on, ascending and without gaps,
  /// alternating, at 4 KiB granularity; at most `runs_max` runs, so perhaps not all of `range`.
  /// Reads map nodes only.
  Result<std::vector<Run>> runs(disk::Range range, size_t runs_max, const CancelToken& cancel);

  /// Has the store fetch what `range` is made of, so that a cache in front of it has it. Decodes
  /// nothing and keeps nothing in memory.
  Status warm(disk::Range range, const CancelToken& cancel);

  BlockImageCounters counters() const;

 private:
  struct Piece;  // a part of a read that comes from one chunk
  using LeafPointer = std::shared_ptr<const repo::Leaf>;

  Result<LeafPointer> find_leaf(uint64_t segment, const CancelToken& cancel);
  Status read_in_segment(uint64_t segment, uint64_t from_bytes, MutableByteSpan out,
                         const CancelToken& cancel);
  Status read_pieces(const repo::Leaf& leaf, std::vector<Piece>& pieces, const CancelToken& cancel);
  /// Acquires the chunks; fetches those that are ours to fetch, in parallel or in this thread.
  std::vector<std::shared_ptr<ChunkCache::Slot>> request_chunks(
      std::span<const repo::ChunkRef> chunks, bool in_parallel, const CancelToken& cancel);
  void start_read_ahead(SegmentSpan segments);
  void read_segment_ahead(uint64_t segment);

  repo::MapReader& maps_;
  const repo::MapRoot root_;
  const uint64_t size_bytes_;
  const BlockImageOptions options_;
  ChunkCache cache_;
  ReadAhead read_ahead_;
  std::atomic<uint64_t> fetched_chunks_ = 0;
  std::atomic<uint64_t> fetched_bytes_ = 0;
  std::atomic<uint64_t> requests_ = 0;

  std::stop_source stop_;
  std::atomic<size_t> read_ahead_tasks_ = 0;
  // Last: their threads use everything above.
  TaskPool fetch_pool_;
  std::unique_ptr<TaskPool> read_ahead_pool_;
};

}  // namespace reclo::image
