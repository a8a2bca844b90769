// Which 512 KiB blocks of an EBS snapshot a set of disk ranges touches. Any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "disk/block_source.h"

namespace reclo::recovery {

/// Blocks [first, end) by their index.
struct BlockSpan {
  uint32_t first = 0;
  uint32_t end = 0;
  bool operator==(const BlockSpan&) const = default;
};

/// Ascending, merged. `ranges` in any order; none reaches past kDiskSizeBytesMax of EBS (64 TiB).
std::vector<BlockSpan> block_spans(const std::vector<disk::Range>& ranges);
/// The same blocks as ranges of the disk.
uint64_t count_blocks(const std::vector<BlockSpan>& spans);
/// The size of the volume that holds a disk: whole GiB.
uint64_t volume_size_gib(uint64_t disk_size_bytes);

}  // namespace reclo::recovery
