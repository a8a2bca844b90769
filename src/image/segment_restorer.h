// One segment's way from the repository to the target.
//
// Thread rule: one object for each thread; what the constructor takes is shared and thread-safe.
#pragma once

#include <memory>
#include <vector>

#include "base/aligned.h"
#include "disk/block_sink.h"
#include "disk/block_source.h"
#include "image/chunk_fetch.h"
#include "repo/map_node.h"

namespace reclo::image {

struct SegmentDamage {
  disk::Range range;
  Error error;
};

struct SegmentOutcome {
  uint64_t written_bytes = 0;
  uint64_t fetched_bytes = 0;
  uint64_t skipped_bytes = 0;
  std::vector<SegmentDamage> damaged;
};

class SegmentRestorer {
 public:
  /// `target_is_zero`: holes need not be written. `update`: see RestoreOptions.
  SegmentRestorer(repo::SlotReader& slots, disk::BlockSink& sink, bool target_is_zero, bool update);

  /// Restores the segment that `leaf` describes to `range` of the disk. Errors: the sink's, and the
  /// store's except those that concern one object (they become damage).
  Result<SegmentOutcome> restore(disk::Range range, const repo::Leaf& leaf,
                                 const CancelToken& cancel);
  /// Makes a hole of any size.
  Result<SegmentOutcome> restore_hole(disk::Range range, const CancelToken& cancel);

 private:
  enum class PageState : uint8_t { kHole, kFetched, kKept, kDamaged };

  Status read_target(disk::Range range);
  /// Which chunks the target holds already, by their identity.
  std::vector<bool> find_kept_chunks(const repo::Leaf& leaf) const;
  Status fetch(disk::Range range, const repo::Leaf& leaf, const std::vector<bool>& kept,
               SegmentOutcome& outcome, const CancelToken& cancel);
  void place_chunk(const repo::Leaf& leaf, size_t chunk, ByteSpan scratch, bool good);
  Status write(disk::Range range, SegmentOutcome& outcome);

  repo::SlotReader& slots_;
  disk::BlockSink& sink_;
  const bool target_is_zero_;
  const bool update_;
  AlignedBuffer buffer_;   // the segment as it shall be
  AlignedBuffer target_;   // as it is (update only)
  AlignedBuffer scratch_;  // a chunk of which only parts are wanted
  std::vector<PageState> pages_;
};

/// Errors that concern one stored object, not the way to it: the rest can go on.
bool is_damage(const Error& error);

}  // namespace reclo::image
