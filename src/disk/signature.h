// What is on a volume, by libblkid's signatures.
//
// libblkid gets a copy of the volume's first and last MiBs in memory, never the device. It says
// "ambiguous" when leftovers of something older are there too (an ext4 superblock under an mdraid
// member, a swap header under LUKS): then nothing about the volume may be concluded.
// Thread-safe.
#pragma once

#include <string>

#include "disk/readable.h"

namespace reclo::disk {

struct Signature {
  std::string kind = "unknown";  // "ext4", "swap", "vfat", "xfs", "ntfs", "lvm", "luks", "mdraid",
                                 // other libblkid names, "ambiguous", "unknown"
  std::string label;
  std::string uuid;
};

/// Errors: reading failed; never because of what is on the disk.
Result<Signature> find_signature(const Readable& volume);

}  // namespace reclo::disk
