// Which parts of a disk a backup must read: what is allocated, in whole 4 KiB pages, by segment.
//
// Skipped: holes of the source (sparse files, unallocated clusters) and ranges that a file system
// says are free. Both become holes of the map. Thread rule: read_ranges() is safe from any thread.
#pragma once

#include <vector>

#include "disk/allocation.h"
#include "disk/block_source.h"

namespace reclo::backup {

/// `ranges` without `holes`; both ascending and not overlapping.
std::vector<disk::Range> without(const std::vector<disk::Range>& ranges,
                                 const std::vector<disk::Range>& holes);

class SegmentPlan {
 public:
  static Result<SegmentPlan> make(disk::BlockSource& source, const CancelToken& cancel);

  uint64_t segment_count() const { return segment_count_; }
  /// Page-aligned ranges of the disk in this segment that must be read, ascending. The last one may
  /// end past the disk's end (in its last, partial page).
  Result<std::vector<disk::Range>> read_ranges(uint64_t segment_index,
                                               disk::BlockSource& source) const;
  /// What the whole plan reads; known after make() for sources that tell their holes cheaply.
  uint64_t skippable_bytes() const { return allocation_.skippable_bytes; }
  const disk::Allocation& allocation() const { return allocation_; }

 private:
  uint64_t disk_size_bytes_ = 0;
  uint64_t segment_count_ = 0;
  disk::Allocation allocation_;
};

}  // namespace reclo::backup
