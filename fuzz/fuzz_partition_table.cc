// Partition tables and boot layouts of arbitrary disks: nothing found may lie outside the disk.
#include "base/check.h"
#include "disk/boot_layout.h"
#include "disk/partition_table.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first bytes choose the disk's size: most of a disk is zeros, and its end matters too.
  if (size < 3) return 0;
  const uint64_t disk_size_bytes = (uint64_t{data[0]} | uint64_t{data[1]} << 8) * 4096 + 512;
  const size_t tail_bytes = size_t{data[2]} * 64;
  ByteSpan head(data + 3, size - 3);
  const ByteSpan tail = head.last(std::min(tail_bytes, head.size()));
  head = head.first(head.size() - tail.size());
  const auto byte_at = [&](uint64_t at) -> uint8_t {
    if (at < head.size()) return head[at];
    const uint64_t tail_start = disk_size_bytes - std::min<uint64_t>(tail.size(), disk_size_bytes);
    return at >= tail_start && at - tail_start < tail.size() ? tail[at - tail_start] : 0;
  };
  const disk::Readable readable{disk_size_bytes,
                                [&](uint64_t offset_bytes, MutableByteSpan out) -> Status {
                                  RECLO_CHECK(offset_bytes <= disk_size_bytes &&
                                              out.size() <= disk_size_bytes - offset_bytes);
                                  for (size_t i = 0; i < out.size(); ++i)
                                    out[i] = byte_at(offset_bytes + i);
                                  return {};
                                }};
  const auto table = disk::read_partition_table(readable);
  RECLO_CHECK(table.ok());
  RECLO_CHECK(table->partitions.size() <= 4 + disk::kPartitionsMax * 5);
  for (const disk::Partition& partition : table->partitions) {
    if (!table->damage.empty()) continue;
    RECLO_CHECK(partition.range.offset_bytes <= disk_size_bytes);
    RECLO_CHECK(partition.range.size_bytes <= disk_size_bytes - partition.range.offset_bytes);
  }
  RECLO_CHECK(disk::find_boot_layout(readable).ok());
  return 0;
}
