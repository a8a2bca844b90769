// A virtual machine as plain values, and the qemu-system-x86_64 argument vector that makes it.
//
// Each disk is a persistent qcow2 overlay ("disk-N") over a read-only NBD node ("base-N"). The NBD
// node reconnects for a day, so that a guest that reads while our server is restarted waits instead
// of seeing an error. Guest flushes reach the overlay file by fdatasync (writeback cache with
// flushes), so what the guest made durable survives the death of everything.
// Values and pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "recovery/accelerator.h"
#include "recovery/forward.h"

namespace reclo::recovery {

enum class Firmware { kAuto, kBios, kUefi };
enum class DiskBus { kVirtio, kNvme, kSata };
enum class Display { kNone, kVnc, kVncSocket };

std::string_view firmware_name(Firmware firmware);  // "auto", "bios", "uefi"
std::string_view disk_bus_name(DiskBus bus);        // "virtio", "nvme", "sata"
std::string_view display_name(Display display);     // "none", "vnc", "vnc-socket"
/// Errors: kInvalidArgument with the values there are. "auto" is the bus virtio.
Result<Firmware> parse_firmware(std::string_view text);
Result<DiskBus> parse_disk_bus(std::string_view text);
Result<Display> parse_display(std::string_view text);

inline constexpr uint64_t kNbdReconnectDelaySeconds = 24 * 3600;

struct MachineDisk {
  uint32_t index = 0;
  std::string overlay_path;
  std::string base_socket;  // NBD; empty when the overlay stands alone (hydrated)
};

struct MachineSpec {
  std::string instance_id;
  Accelerator accelerator = Accelerator::kTcg;
  uint64_t memory_bytes = 0;
  uint32_t cpus = 1;
  Firmware firmware = Firmware::kBios;  // never kAuto
  DiskBus disk_bus = DiskBus::kVirtio;
  Display display = Display::kNone;
  bool isolated = false;  // the guest reaches nothing; forwards to it still work
  std::vector<Forward> forwards;
  std::vector<MachineDisk> disks;
  std::string uefi_code_path;  // UEFI only: the firmware, and this machine's own variables
  std::string uefi_vars_path;
  std::string qmp_socket;
  std::string vnc_socket;
  std::string serial_log;
  std::string pid_file;
  std::string marker_path;  // tells the guest that it is a recovered copy; empty: nothing does
};

/// The whole argument vector. Holds no secrets.
std::vector<std::string> qemu_argv(const MachineSpec& spec);

/// Doubles commas, as QEMU's key=value options want. (Blocks and devices are given as JSON.)
std::string escape_option(std::string_view value);

/// "disk-3", "base-3": the block nodes of a disk.
std::string disk_node(uint32_t index);
std::string base_node(uint32_t index);

}  // namespace reclo::recovery
