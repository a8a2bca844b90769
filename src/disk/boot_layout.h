// How a disk boots: what a recovery needs to know to pick the firmware.
// Thread-safe.
#pragma once

#include <string>

#include "disk/readable.h"

namespace reclo::disk {

struct BootLayout {
  bool bios_bootable = false;  // the first sector has boot code and its signature
  bool uefi_bootable = false;  // there is an EFI system partition
  std::string table = "none";  // "gpt", "mbr", "none"

  /// BIOS can start whatever has boot code; only what has none is left to UEFI.
  bool needs_uefi() const { return !bios_bootable && uefi_bootable; }
};

/// Errors: reading failed; never because of what is on the disk.
Result<BootLayout> find_boot_layout(const Readable& disk);

}  // namespace reclo::disk
