#include "disk/partition_table.h"

#include <algorithm>
#include <array>
#include <optional>

namespace reclo::disk {
namespace {

constexpr uint64_t kMbrSectorSizeBytes = 512;
constexpr size_t kMbrEntriesOffset = 446;
constexpr uint8_t kMbrTypeProtective = 0xEE;
constexpr uint8_t kMbrTypeEfiSystem = 0xEF;

// C12A7328-F81F-11D2-BA4B-00A0C93EC93B in its stored order.
constexpr std::array<uint8_t, 16> kGptTypeEfiSystem = {
    0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B};

// CRC-32 as in zlib, bit by bit: a few KiB at most once a disk.
uint32_t crc32(ByteSpan bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

struct MbrEntry {
  uint8_t boot_flag = 0;
  uint8_t type = 0;
  uint32_t start_sector = 0;
  uint32_t sector_count = 0;
};

using Sector = std::array<uint8_t, kMbrSectorSizeBytes>;

MbrEntry mbr_entry(const Sector& sector, size_t index) {
  const uint8_t* at = &sector[kMbrEntriesOffset + 16 * index];
  return {at[0], at[4], load_le<uint32_t>(at + 8), load_le<uint32_t>(at + 12)};
}

bool has_mbr_signature(const Sector& sector) { return sector[510] == 0x55 && sector[511] == 0xAA; }
bool is_extended(uint8_t type) { return type == 0x05 || type == 0x0F || type == 0x85; }
bool is_inside(Range range, uint64_t size_bytes) {
  return range.size_bytes > 0 && range.offset_bytes <= size_bytes &&
         range.size_bytes <= size_bytes - range.offset_bytes;
}

void add_mbr_partition(PartitionTable& table, Range range, uint8_t type) {
  Partition partition;
  partition.range = range;
  partition.mbr_type = type;
  partition.is_efi_system = type == kMbrTypeEfiSystem;
  table.partitions.push_back(partition);
}

// A chain of sectors inside the extended partition, each with one logical partition (relative to
// the sector itself) and a link to the next (relative to the extended partition).
Status read_logical(const Readable& disk, Range extended, PartitionTable& table) {
  uint64_t at = extended.offset_bytes;
  for (size_t count = 0; count < kPartitionsMax; ++count) {
    Sector sector{};
    RECLO_TRY(disk.read_at(at, sector));
    if (!has_mbr_signature(sector)) {
      table.damage = "a logical partition's sector has no signature";
      return {};
    }
    const MbrEntry logical = mbr_entry(sector, 0);
    const MbrEntry next = mbr_entry(sector, 1);
    if (logical.type != 0) {
      const Range range{at + logical.start_sector * kMbrSectorSizeBytes,
                        logical.sector_count * kMbrSectorSizeBytes};
      if (range.offset_bytes <= at || range.end_bytes() > extended.end_bytes() ||
          range.size_bytes == 0) {
        table.damage = "a logical partition is outside its extended partition";
        return {};
      }
      add_mbr_partition(table, range, logical.type);
    }
    if (!is_extended(next.type) || next.sector_count == 0) return {};
    const uint64_t following = extended.offset_bytes + next.start_sector * kMbrSectorSizeBytes;
    if (following == at || following + kMbrSectorSizeBytes > extended.end_bytes()) break;
    at = following;
  }
  table.damage = "the chain of logical partitions does not end";
  return {};
}

Result<PartitionTable> read_mbr(const Readable& disk, const Sector& sector) {
  PartitionTable table;
  if (is_all_zero(ByteSpan(sector).subspan(kMbrEntriesOffset, 64))) return table;
  table.kind = "mbr";
  for (size_t i = 0; i < 4; ++i) {
    const MbrEntry entry = mbr_entry(sector, i);
    if (entry.type == 0) continue;
    const Range range{entry.start_sector * kMbrSectorSizeBytes,
                      entry.sector_count * kMbrSectorSizeBytes};
    if ((entry.boot_flag & 0x7F) != 0 || entry.start_sector == 0 ||
        !is_inside(range, disk.size_bytes)) {
      table.damage = "a partition is outside the disk, or its entry makes no sense";
      return table;
    }
    if (is_extended(entry.type)) {
      RECLO_TRY(read_logical(disk, range, table));
      if (!table.damage.empty()) return table;
    } else {
      add_mbr_partition(table, range, entry.type);
    }
  }
  return table;
}

using MaybeTable = std::optional<PartitionTable>;

// UEFI specification, "GPT Header". Nothing when the header at `sector_index` is not valid.
Result<MaybeTable> read_gpt(const Readable& disk, uint64_t sector_size_bytes,
                            uint64_t sector_index) {
  const uint64_t offset_bytes = sector_index * sector_size_bytes;
  if (!is_inside({offset_bytes, sector_size_bytes}, disk.size_bytes)) return MaybeTable();
  Bytes header(sector_size_bytes);
  RECLO_TRY(disk.read_at(offset_bytes, header));
  if (as_text(ByteSpan(header).first(8)) != "EFI PART") return MaybeTable();
  const auto header_size_bytes = load_le<uint32_t>(&header[12]);
  if (header_size_bytes < 92 || header_size_bytes > sector_size_bytes) return MaybeTable();
  const auto stored_crc = load_le<uint32_t>(&header[16]);
  store_le<uint32_t>(&header[16], 0);
  if (crc32(ByteSpan(header).first(header_size_bytes)) != stored_crc) return MaybeTable();
  if (load_le<uint64_t>(&header[24]) != sector_index) return MaybeTable();

  const auto entries_sector = load_le<uint64_t>(&header[72]);
  const auto entry_count = load_le<uint32_t>(&header[80]);
  const auto entry_size_bytes = load_le<uint32_t>(&header[84]);
  const uint64_t entries_size_bytes = uint64_t{entry_count} * entry_size_bytes;
  if (entry_size_bytes < 128 || entry_size_bytes % 8 != 0 || entries_size_bytes == 0 ||
      entries_size_bytes > kGptEntriesSizeBytesMax ||
      entries_sector > disk.size_bytes / sector_size_bytes ||
      !is_inside({entries_sector * sector_size_bytes, entries_size_bytes}, disk.size_bytes))
    return MaybeTable();
  Bytes entries(entries_size_bytes);
  RECLO_TRY(disk.read_at(entries_sector * sector_size_bytes, entries));
  if (crc32(entries) != load_le<uint32_t>(&header[88])) return MaybeTable();

  PartitionTable table;
  table.kind = "gpt";
  const uint64_t sector_count = disk.size_bytes / sector_size_bytes;
  for (uint32_t i = 0; i < entry_count; ++i) {
    const uint8_t* entry = &entries[size_t{i} * entry_size_bytes];
    if (is_all_zero({entry, 16})) continue;
    const auto first = load_le<uint64_t>(entry + 32);
    const auto last = load_le<uint64_t>(entry + 40);
    if (first > last || last >= sector_count) {
      table.damage = "a partition is outside the disk";
      continue;
    }
    if (table.partitions.size() >= kPartitionsMax) {
      table.damage = "it has more partitions than are looked at";
      break;
    }
    Partition partition;
    partition.range = {first * sector_size_bytes, (last - first + 1) * sector_size_bytes};
    std::copy_n(entry, 16, partition.gpt_type.begin());
    partition.is_efi_system = partition.gpt_type == kGptTypeEfiSystem;
    table.partitions.push_back(partition);
  }
  return MaybeTable(std::move(table));
}

// With 512-byte sectors or, on disks that have them, 4096-byte ones; the primary or the backup.
Result<PartitionTable> find_gpt(const Readable& disk) {
  std::optional<PartitionTable> found;
  for (const bool backup : {false, true}) {
    for (const uint64_t sector_size_bytes : {uint64_t{512}, uint64_t{4096}}) {
      const uint64_t sector_count = disk.size_bytes / sector_size_bytes;
      if (sector_count < 3) continue;
      RECLO_ASSIGN_OR_RETURN(auto table,
                             read_gpt(disk, sector_size_bytes, backup ? sector_count - 1 : 1));
      if (!table) continue;
      if (found) {
        found->damage = "there are two of them, for different sector sizes";
        continue;
      }
      found = std::move(table);
      found->from_backup = backup;
    }
    if (found) return *found;
  }
  PartitionTable damaged;
  damaged.kind = "gpt";
  damaged.damage = "neither its primary nor its backup header is valid";
  return damaged;
}

void sort_and_check_overlap(PartitionTable& table) {
  std::sort(table.partitions.begin(), table.partitions.end(),
            [](const Partition& a, const Partition& b) {
              return a.range.offset_bytes < b.range.offset_bytes;
            });
  for (size_t i = 1; i < table.partitions.size(); ++i)
    if (table.partitions[i].range.offset_bytes < table.partitions[i - 1].range.end_bytes())
      table.damage = "partitions overlap";
}

}  // namespace

Result<PartitionTable> read_partition_table(const Readable& disk) {
  PartitionTable table;
  if (disk.size_bytes < 2 * kMbrSectorSizeBytes) return table;
  Sector sector{};
  RECLO_TRY(disk.read_at(0, sector));
  // Without the protective MBR, what is left of a GPT belongs to the disk's past.
  if (!has_mbr_signature(sector)) return table;
  bool protective = false;
  for (size_t i = 0; i < 4; ++i)
    protective = protective || mbr_entry(sector, i).type == kMbrTypeProtective;
  if (protective) {
    RECLO_ASSIGN_OR_RETURN(table, find_gpt(disk));
  } else {
    RECLO_ASSIGN_OR_RETURN(table, read_mbr(disk, sector));
  }
  sort_and_check_overlap(table);
  return table;
}

}  // namespace reclo::disk
