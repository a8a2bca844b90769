// One worker's part of the pipeline: read a segment, hash its pages, find what changed, compress
// it.
//
// The result is everything the assembler needs; nothing is stored yet. One processor per thread;
// what they share is in PipelineContext, which is safe from any thread.
#pragma once

#include <memory>
#include <vector>

#include "backup/chunk_index.h"
#include "backup/segment_diff.h"
#include "backup/segment_plan.h"
#include "backup/statistics.h"
#include "base/aligned.h"
#include "crypto/hash.h"
#include "repo/codec.h"
#include "repo/map_reader.h"

namespace reclo::backup {

/// What all workers of one disk share. Pointers outlive the pipeline.
struct PipelineContext {
  disk::BlockSource* source = nullptr;
  const SegmentPlan* plan = nullptr;
  uint16_t disk_index = 0;
  const crypto::ContentHasher* hasher = nullptr;
  /// The parent's map reader and the roots of all its disks, by disk index; empty for the first
  /// point.
  repo::MapReader* parent_reader = nullptr;
  std::vector<repo::MapRoot> parent_roots;
  std::optional<size_t> parent_disk_index;  // which of them is this disk's
  /// The parent's page tags of this disk; null when lost or not to be trusted.
  const PageTagFile* parent_tags = nullptr;
  ChunkIndex* index = nullptr;
  Statistics* statistics = nullptr;
  std::atomic<int>* compression_level = nullptr;
};

struct NewChunk {
  repo::ChunkRef reference;  // address only when `existing`
  bool existing = false;     // found in the parent's map or in this session
  Bytes payload;             // otherwise: compressed, checked
  std::vector<PageRun> runs;
};

struct SegmentResult {
  uint64_t segment_index = 0;
  bool leaf_changed = false;
  repo::Leaf kept;
  std::vector<NewChunk> chunks;
  std::unique_ptr<SegmentTags> tags;  // set when they differ from the remembered ones
};

class SegmentProcessor {
 public:
  explicit SegmentProcessor(const PipelineContext& context);
  Result<SegmentResult> process(uint64_t segment_index, const CancelToken& cancel);

 private:
  Status read_and_tag(uint64_t segment_index);
  Status read_piece(uint64_t segment_start_bytes, disk::Range piece);
  void tag_piece(disk::Range piece);
  Result<std::shared_ptr<const repo::Leaf>> parent_leaf(uint64_t segment_index,
                                                        const CancelToken& cancel);
  Result<NewChunk> make_chunk(const ChunkPlan& plan, const repo::Leaf* parent,
                              const CancelToken& cancel);
  Result<std::optional<repo::ChunkRef>> find_existing(const ChunkId& id, uint16_t pages,
                                                      const repo::Leaf* parent,
                                                      const CancelToken& cancel);
  ByteSpan gather(const ChunkPlan& plan);
  Status compress(ByteSpan raw, Bytes& payload);

  const PipelineContext& context_;
  PageTag zero_page_tag_;
  const AlignedBuffer memory_;
  const MutableByteSpan segment_;   // all 4 MiB of it
  std::vector<disk::Range> dirty_;  // which parts of segment_ hold data of the last segment
  Bytes gathered_;
  Bytes check_;
  SegmentTags tags_{};
  repo::Compressor compressor_;
  repo::Decompressor decompressor_;
};

}  // namespace reclo::backup
