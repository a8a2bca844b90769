// What was found out about a guest before anything is changed: its volumes, its root, its kernels.
// Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace reclo::recovery {

enum class PrepareTarget { kEc2, kQemu };

struct GuestVolume {
  std::string device;  // as the appliance calls it: "/dev/sda1", "/dev/vg/root"
  int disk = -1;       // of a partition: which disk, from 0
  int partition = 0;   // and which partition; 0 for what is none
  std::string type;    // "ext4", "swap", "vfat", "crypto_LUKS", "LVM2_member" …
  std::string uuid;
  std::string label;
  std::string part_uuid;
};

struct GuestMount {
  std::string device;  // as mounted: "/dev/sda1", "btrfsvol:/dev/sda2/@"
  std::string folder;  // "/", "/boot"
};

struct GuestFacts {
  std::vector<GuestVolume> volumes;
  std::vector<GuestMount> mounts;  // what of the guest could be mounted, "/" first
  std::string system;              // "Debian GNU/Linux 12 (bookworm)"
  std::string system_id;           // "debian", "rhel", "opensuse-leap"
  std::vector<std::string> like;   // ID_LIKE
  std::string esp_folder;          // where its EFI system partition is mounted; empty: nowhere
  bool needs_uefi = false;         // the first disk starts by UEFI only
  bool has_boot_loader = true;     // the first disk has boot code or an EFI system partition
  std::vector<std::string> notes;  // said in the report: other systems found, what did not mount

  bool is_mounted(const std::string& folder) const;
  const GuestVolume* volume(const std::string& device) const;
};

struct FstabLine {
  size_t number = 0;                // of the line, from 0
  std::vector<std::string> fields;  // spec, folder, type, options, dump, pass: at least four
};
/// The lines that mount something. At most 1,000.
std::vector<FstabLine> parse_fstab(std::string_view text);

/// The volume that `spec` of fstab, crypttab or root= means: UUID=, LABEL=, PARTUUID=, /dev/disk/…,
/// /dev/VG/LV, /dev/mapper/VG-LV, /dev/sdX1 (also hd, vd, xvd, nvme0n1p1, mmcblk0p1): disks are
/// taken to be in the order of the recovery point. Nothing when there is none such.
const GuestVolume* resolve_device(const GuestFacts& facts, std::string_view spec);
/// Whether it names a disk by its place ("/dev/sda1", "/dev/disk/by-path/…"): not to be relied on.
bool is_named_by_place(std::string_view spec);

}  // namespace reclo::recovery
