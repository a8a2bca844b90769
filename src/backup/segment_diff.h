// Decides what of a segment is stored anew, given what its pages are now, what they were, and the
// parent's leaf. Pure: no I/O, any thread.
//
// The rules (docs/adr/0005), for a segment in which something changed:
//  1. Nothing known of before: every 256 KiB window becomes a chunk of its data pages.
//  2. Otherwise unchanged pages keep the parent's extents; a window whose data pages all changed
//     becomes a chunk of its own; all other changed pages together become one patch chunk.
//  3. When more than half of the data pages would then lie in patches, or the leaf would have too
//  many
//     extents, the segment is rewritten whole as in 1. (What did not change is found again by its
//     identity, so this costs no upload for untouched windows.)
//  4. When the leaf would refer to too many chunks, its patches are merged into one new patch.
#pragma once

#include <vector>

#include "backup/page_tags.h"
#include "repo/map_node.h"

namespace reclo::backup {

/// A run of pages of a segment.
struct PageRun {
  uint16_t first_page = 0;
  uint16_t pages = 0;
  bool operator==(const PageRun&) const = default;
};

/// A chunk to make: its content is these pages of the segment, in order.
struct ChunkPlan {
  std::vector<PageRun> runs;
  uint16_t pages = 0;
};

struct SegmentDiff {
  repo::Leaf kept;                // what stays of the parent's leaf
  std::vector<ChunkPlan> chunks;  // what is stored (or found) anew
  uint32_t data_pages = 0;        // pages that are no holes now
};

/// True when no page differs: nothing to do, the leaf stays.
bool same_pages(const SegmentTags& now, const SegmentTags& before);

/// `before` and `parent` are null when unknown. A zero tag is a hole.
SegmentDiff diff_segment(const SegmentTags& now, const SegmentTags* before,
                         const repo::Leaf* parent);

/// Adds a chunk with its extents to a leaf under construction.
void add_chunk(repo::Leaf& leaf, const repo::ChunkRef& chunk, const std::vector<PageRun>& runs);
/// Orders and merges the extents once all chunks are in.
void finish_leaf(repo::Leaf& leaf);

}  // namespace reclo::backup
