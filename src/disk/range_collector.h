// Collects ascending runs of bytes into a bounded, merged, page-aligned list.
//
// Thread rule: one thread at a time.
#pragma once

#include <vector>

#include "base/limits.h"
#include "disk/block_source.h"

namespace reclo::disk {

/// Merges what touches, aligns each run inwards to 4 KiB, and keeps at most `count_max` runs: when
/// there are more, it drops the shortest ones (they save the least), so that memory is bounded
/// whatever a disk's maps say.
class RangeCollector {
 public:
  explicit RangeCollector(size_t count_max) : count_max_(count_max) {}

  /// `range` must not start before the end of the one added last.
  void add(Range range);
  /// The result; the collector is empty afterwards.
  std::vector<Range> take();

 private:
  void flush_pending();
  void drop_short_ones();

  const size_t count_max_;
  uint64_t shortest_kept_bytes_ = kPageSizeBytes;
  Range pending_;
  std::vector<Range> ranges_;
};

}  // namespace reclo::disk
