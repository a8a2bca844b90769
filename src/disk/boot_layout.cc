#include "disk/boot_layout.h"

#include <algorithm>
#include <array>

#include "disk/partition_table.h"

namespace reclo::disk {

Result<BootLayout> find_boot_layout(const Readable& disk) {
  constexpr size_t kSectorSizeBytes = 512;
  constexpr size_t kBootCodeSizeBytes = 440;
  BootLayout layout;
  if (disk.size_bytes < kSectorSizeBytes) return layout;
  std::array<uint8_t, kSectorSizeBytes> sector{};
  RECLO_TRY(disk.read_at(0, sector));
  layout.bios_bootable = sector[510] == 0x55 && sector[511] == 0xAA &&
                         !is_all_zero(ByteSpan(sector).first(kBootCodeSizeBytes));
  RECLO_ASSIGN_OR_RETURN(const PartitionTable table, read_partition_table(disk));
  layout.table = table.kind;
  layout.uefi_bootable = std::any_of(table.partitions.begin(), table.partitions.end(),
                                     [](const Partition& p) { return p.is_efi_system; });
  return layout;
}

}  // namespace reclo::disk
