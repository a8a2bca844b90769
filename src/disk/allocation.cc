#include "disk/allocation.h"

#include <fmt/format.h>

#include <algorithm>

#include "disk/ext_allocation.h"
#include "disk/partition_table.h"
#include "disk/range_collector.h"
#include "disk/signature.h"
#include "disk/swap_allocation.h"

namespace reclo::disk {
namespace {

constexpr size_t kSkippableRangesMax = size_t{1} << 20;  // 16 MiB of memory
constexpr std::chrono::minutes kTimeMax{10};

// Looks at one volume and adds what of it is free.
Result<Volume> examine(const Readable& disk, Range range, const PartitionTable& table,
                       RangeCollector& out, const CancelToken& cancel) {
  const Readable volume = disk.part(range.offset_bytes, range.size_bytes);
  RECLO_ASSIGN_OR_RETURN(Signature signature, find_signature(volume));
  Volume found;
  found.range = range;
  found.kind = std::move(signature.kind);
  found.label = std::move(signature.label);
  found.uuid = std::move(signature.uuid);
  found.table = table.kind;
  if (!table.damage.empty()) {
    found.note = "the partition table cannot be relied on: " + table.damage;
  } else if (found.kind == "ext2" || found.kind == "ext3" || found.kind == "ext4") {
    RECLO_ASSIGN_OR_RETURN(found.note, collect_ext_free(volume, range.offset_bytes, out, cancel));
  } else if (found.kind == "swap") {
    RECLO_ASSIGN_OR_RETURN(found.note, collect_swap_free(volume, range.offset_bytes, out));
  } else if (found.kind == "ambiguous") {
    found.note = "has the marks of more than one file system";
  } else if (found.kind == "swsuspend") {
    found.note = "holds a hibernated machine's memory";
  } else if (found.kind == "lvm") {
    found.note = "logical volumes are not looked into";
  }
  return found;
}

// A table *and* a file system on the whole disk: one of them is a leftover, and nobody knows which.
Status check_whole_disk(const Readable& disk, PartitionTable& table) {
  if (table.kind == "none" || !table.damage.empty()) return {};
  RECLO_ASSIGN_OR_RETURN(const Signature whole, find_signature(disk));
  if (whole.kind != "unknown")
    table.damage = fmt::format("the whole disk also looks like {}", whole.kind);
  return {};
}

void attribute_to_volumes(Allocation& allocation) {
  auto volume = allocation.volumes.begin();
  for (const Range& range : allocation.skippable) {
    allocation.skippable_bytes += range.size_bytes;
    // Touching volumes can share a run: each gets its part.
    while (volume != allocation.volumes.end() && volume->range.end_bytes() <= range.offset_bytes)
      ++volume;
    for (auto each = volume;
         each != allocation.volumes.end() && each->range.offset_bytes < range.end_bytes(); ++each)
      each->free_bytes += std::min(range.end_bytes(), each->range.end_bytes()) -
                          std::max(range.offset_bytes, each->range.offset_bytes);
  }
}

}  // namespace

Result<Allocation> find_allocation(BlockSource& source, const CancelToken& cancel) {
  const CancelToken limited = cancel.with_timeout(kTimeMax);
  const Readable disk{source.size_bytes(), [&source](uint64_t offset_bytes, MutableByteSpan out) {
                        return source.read_at(offset_bytes, out);
                      }};
  RECLO_ASSIGN_OR_RETURN(PartitionTable table, read_partition_table(disk));
  RECLO_TRY(check_whole_disk(disk, table));
  std::vector<Range> ranges;
  for (const Partition& partition : table.partitions) ranges.push_back(partition.range);
  if (ranges.empty()) ranges.push_back({0, disk.size_bytes});

  Allocation allocation;
  RangeCollector collector(kSkippableRangesMax);
  for (const Range& range : ranges) {
    RECLO_TRY(limited.check());
    RECLO_ASSIGN_OR_RETURN(Volume volume, examine(disk, range, table, collector, limited));
    allocation.volumes.push_back(std::move(volume));
  }
  allocation.skippable = collector.take();
  attribute_to_volumes(allocation);
  return allocation;
}

}  // namespace reclo::disk
