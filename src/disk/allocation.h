// Which blocks of a disk hold data that a file system knows of.
#pragma once

#include <string>
#include <vector>

#include "disk/block_source.h"

namespace reclo::disk {

/// One thing found on a disk: a partition (or the whole disk) and what is on it.
struct Volume {
  Range range;
  std::string
      kind;  // "ext4", "ext3", "ext2", "swap", "vfat", "xfs", "ntfs", "lvm", "luks", "unknown" …
  std::string label;  // as found, may be empty
  std::string uuid;   // as found, may be empty
  std::string table;  // "gpt", "mbr", "none"
  std::string note;   // why nothing could be skipped: "dirty journal", "unreadable", may be empty
  uint64_t free_bytes = 0;  // how much of it is skipped
};

/// What a backup may leave out of a disk. Everything not listed in `skippable` must be read.
struct Allocation {
  std::vector<Volume> volumes;
  std::vector<Range> skippable;  // ascending, merged, 4 KiB-aligned inwards
  uint64_t skippable_bytes = 0;
};

/// Reads partition tables (GPT, MBR with logical partitions) and the allocation maps of ext2/3/4
/// (libext2fs, also offline and not cleanly unmounted) and swap areas (all but the header page).
/// Anything not understood is simply not skippable; hostile metadata can cost coverage of free
/// space only, never bounds or time: limits in the .cc. Never fails because of what is on the disk,
/// only because reading it failed. Thread-safe for different sources.
Result<Allocation> find_allocation(BlockSource& source, const CancelToken& cancel);

}  // namespace reclo::disk
