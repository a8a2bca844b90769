#include "recovery/qemu_machine.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/units.h"
#include "recovery/clone_marker.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kFirstDiskSlot = 8;  // PCI: 8 disks a slot, so 64 disks end before slot 16
constexpr uint32_t kFunctionsPerSlot = 8;
constexpr uint32_t kPortsPerSataController = 6;
constexpr uint32_t kNetworkSlot = 3;

std::string pci_address(uint32_t index) {
  return fmt::format("{:x}.{:x}", kFirstDiskSlot + index / kFunctionsPerSlot,
                     index % kFunctionsPerSlot);
}

Json on_pci(uint32_t index, Json device) {
  device["addr"] = pci_address(index);
  if (index % kFunctionsPerSlot == 0) device["multifunction"] = true;
  return device;
}

void add_json(std::vector<std::string>& argv, const char* option, const Json& value) {
  argv.emplace_back(option);
  argv.push_back(value.dump());
}

void add_disk_blocks(std::vector<std::string>& argv, const MachineDisk& disk) {
  if (!disk.base_socket.empty()) {
    add_json(argv, "-blockdev",
             {{"driver", "nbd"},
              {"node-name", base_node(disk.index)},
              {"read-only", true},
              {"server", {{"type", "unix"}, {"path", disk.base_socket}}},
              {"reconnect-delay", kNbdReconnectDelaySeconds},
              {"open-timeout", 10}});
  }
  Json overlay{{"driver", "qcow2"},
               {"node-name", disk_node(disk.index)},
               {"discard", "unmap"},
               {"file",
                {{"driver", "file"},
                 {"filename", disk.overlay_path},
                 {"discard", "unmap"},
                 {"locking", "on"}}},
               {"backing", nullptr}};
  if (!disk.base_socket.empty()) overlay["backing"] = base_node(disk.index);
  add_json(argv, "-blockdev", overlay);
}

// `position` among the machine's disks; the first one boots.
void add_disk_device(std::vector<std::string>& argv, DiskBus bus, const MachineDisk& disk,
                     uint32_t position) {
  Json device{{"drive", disk_node(disk.index)}, {"bootindex", position}};
  const std::string serial = fmt::format("reclo-disk-{}", disk.index);
  switch (bus) {
    case DiskBus::kVirtio:
      device["driver"] = "virtio-blk-pci";
      device["serial"] = serial;
      return add_json(argv, "-device", on_pci(position, std::move(device)));
    case DiskBus::kNvme:
      device["driver"] = "nvme";
      device["serial"] = serial;
      return add_json(argv, "-device", on_pci(position, std::move(device)));
    case DiskBus::kSata:
      const uint32_t controller = position / kPortsPerSataController;
      const uint32_t port = position % kPortsPerSataController;
      if (controller > 0 && port == 0)
        add_json(argv, "-device",
                 on_pci(controller - 1,
                        {{"driver", "ich9-ahci"}, {"id", fmt::format("sata{}", controller)}}));
      device["driver"] = "ide-hd";
      device["serial"] = serial;
      device["bus"] = controller == 0 ? fmt::format("ide.{}", port)  // q35's own controller
                                      : fmt::format("sata{}.{}", controller, port);
      return add_json(argv, "-device", device);
  }
}

void add_network(std::vector<std::string>& argv, const MachineSpec& spec) {
  Json network{{"type", "user"}, {"id", "net0"}, {"restrict", spec.isolated}};
  Json forwards = Json::array();
  for (const Forward& forward : spec.forwards)
    forwards.push_back({{"str", fmt::format("tcp:{}:{}-:{}", forward.host_address,
                                            forward.host_port, forward.guest_port)}});
  if (!forwards.empty()) network["hostfwd"] = forwards;
  add_json(argv, "-netdev", network);
  // A system without virtio for its disk has none for its network either.
  const char* card = spec.disk_bus == DiskBus::kSata ? "e1000e" : "virtio-net-pci";
  add_json(argv, "-device",
           {{"driver", card}, {"netdev", "net0"}, {"addr", fmt::format("{:x}", kNetworkSlot)}});
}

void add_firmware(std::vector<std::string>& argv, const MachineSpec& spec, std::string& machine) {
  if (spec.firmware != Firmware::kUefi) return;
  add_json(argv, "-blockdev",
           {{"driver", "raw"},
            {"node-name", "uefi-code"},
            {"read-only", true},
            {"file", {{"driver", "file"}, {"filename", spec.uefi_code_path}}}});
  add_json(argv, "-blockdev",
           {{"driver", "raw"},
            {"node-name", "uefi-vars"},
            {"file", {{"driver", "file"}, {"filename", spec.uefi_vars_path}}}});
  machine += ",pflash0=uefi-code,pflash1=uefi-vars";
}

void add_display(std::vector<std::string>& argv, const MachineSpec& spec) {
  argv.insert(argv.end(), {"-display", "none", "-device", "VGA"});
  // QEMU picks the first free port of a hundred itself; query-vnc tells which.
  if (spec.display == Display::kVnc) argv.insert(argv.end(), {"-vnc", "127.0.0.1:0,to=99"});
  if (spec.display == Display::kVncSocket)
    argv.insert(argv.end(), {"-vnc", "unix:" + escape_option(spec.vnc_socket)});
}

template <class T>
Result<T> parse_name(std::string_view text, std::string_view what,
                     const std::vector<std::pair<std::string_view, T>>& names) {
  std::string known;
  for (const auto& [name, value] : names) {
    if (name == text) return value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  return Error(Code::kInvalidArgument, fmt::format("{} '{}' is none of: {}", what, text, known));
}

}  // namespace

std::string_view firmware_name(Firmware firmware) {
  if (firmware == Firmware::kAuto) return "auto";
  return firmware == Firmware::kBios ? "bios" : "uefi";
}
std::string_view disk_bus_name(DiskBus bus) {
  if (bus == DiskBus::kVirtio) return "virtio";
  return bus == DiskBus::kNvme ? "nvme" : "sata";
}
std::string_view display_name(Display display) {
  if (display == Display::kNone) return "none";
  return display == Display::kVnc ? "vnc" : "vnc-socket";
}
Result<Firmware> parse_firmware(std::string_view text) {
  return parse_name<Firmware>(
      text, "firmware",
      {{"auto", Firmware::kAuto}, {"bios", Firmware::kBios}, {"uefi", Firmware::kUefi}});
}
Result<DiskBus> parse_disk_bus(std::string_view text) {
  return parse_name<DiskBus>(text, "disk bus",
                             {{"virtio", DiskBus::kVirtio},
                              {"nvme", DiskBus::kNvme},
                              {"sata", DiskBus::kSata},
                              {"auto", DiskBus::kVirtio}});
}
Result<Display> parse_display(std::string_view text) {
  return parse_name<Display>(
      text, "display",
      {{"none", Display::kNone}, {"vnc", Display::kVnc}, {"vnc-socket", Display::kVncSocket}});
}

std::string disk_node(uint32_t index) { return fmt::format("disk-{}", index); }
std::string base_node(uint32_t index) { return fmt::format("base-{}", index); }

std::string escape_option(std::string_view value) {
  std::string out;
  for (const char c : value) out.append(c == ',' ? 2 : 1, c);
  return out;
}

std::vector<std::string> qemu_argv(const MachineSpec& spec) {
  const bool kvm = spec.accelerator == Accelerator::kKvm;
  std::string machine = "q35";
  std::vector<std::string> argv{"qemu-system-x86_64",
                                "-nodefaults",
                                "-no-user-config",
                                "-name",
                                "reclo-" + spec.instance_id,
                                "-accel",
                                kvm ? "kvm" : "tcg,thread=multi",
                                "-cpu",
                                kvm ? "host" : "max",
                                "-smp",
                                fmt::format("{}", spec.cpus),
                                "-m",
                                fmt::format("size={}M", spec.memory_bytes / kMiB)};
  add_firmware(argv, spec, machine);
  argv.insert(argv.end(), {"-machine", machine});
  // What runs in the guest may be what destroyed the original: QEMU gives up what it does not need.
  argv.insert(
      argv.end(),
      {"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
       // How a recovered copy can know that it is one (DESIGN §6, clone safety).
       "-smbios", "type=11,value=reclo-instance:" + spec.instance_id});
  if (!spec.marker_path.empty())
    argv.insert(argv.end(), {"-fw_cfg", fmt::format("name={},file={}", kCloneMarkerFwCfg,
                                                    escape_option(spec.marker_path))});
  uint32_t position = 0;
  for (const MachineDisk& disk : spec.disks) add_disk_blocks(argv, disk);
  for (const MachineDisk& disk : spec.disks) add_disk_device(argv, spec.disk_bus, disk, position++);
  add_network(argv, spec);
  add_display(argv, spec);
  argv.insert(
      argv.end(),
      {"-chardev", fmt::format("file,id=serial0,path={},append=on", escape_option(spec.serial_log)),
       "-serial", "chardev:serial0", "-chardev",
       fmt::format("socket,id=qmp0,path={},server=on,wait=off", escape_option(spec.qmp_socket)),
       "-mon", "chardev=qmp0,mode=control", "-pidfile", spec.pid_file});
  return argv;
}

}  // namespace reclo::recovery
