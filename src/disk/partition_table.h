// Reads a disk's partition table: GPT (also its backup) or MBR with logical partitions.
//
// Only a table that is consistent in itself counts. A disk whose table is damaged, overlaps or is
// ambiguous is said to be so, because anything concluded from it could be wrong. Bounded: at most
// kPartitionsMax partitions, one MiB of entries. Thread-safe.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/units.h"
#include "disk/block_source.h"
#include "disk/readable.h"

namespace reclo::disk {

inline constexpr size_t kPartitionsMax = 256;
inline constexpr uint64_t kGptEntriesSizeBytesMax = kMiB;

struct Partition {
  Range range;
  std::array<uint8_t, 16> gpt_type{};  // as stored (mixed-endian); zeros in an MBR
  uint8_t mbr_type = 0;                // 0 in a GPT
  bool is_efi_system = false;
};

struct PartitionTable {
  std::string kind = "none";          // "gpt", "mbr", "none"
  std::string damage;                 // why the table must not be relied on; "" when it may be
  std::vector<Partition> partitions;  // ascending by address
  bool from_backup = false;           // the GPT's primary header was bad
};

/// Errors: reading failed; never because of what is on the disk.
Result<PartitionTable> read_partition_table(const Readable& disk);

}  // namespace reclo::disk
