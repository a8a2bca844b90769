// Network: other hardware has other names, other addresses and other name servers.
//
// In EC2 a subnet's own DHCP says what an instance is called: static addresses are put aside (the
// originals stay in the guest for the way home) and every kind of network configuration that is in
// use gets a profile for the drivers ena and virtio_net. Under QEMU static addresses stay, and the
// profile catches what nothing else configures.
#include <fmt/format.h>

#include <algorithm>

#include "os/file.h"
#include "recovery/guest/fix.h"

namespace reclo::recovery {
namespace {

constexpr const char* kNetworkdProfile =
    "# Made by ReClo: DHCP where nothing else configures the network.\n"
    "[Match]\nDriver=ena virtio_net\n{}\n[Network]\nDHCP=yes\n";
constexpr const char* kNetplanProfile =
    "# Made by ReClo: DHCP where nothing else configures the network.\n"
    "network:\n  version: 2\n  ethernets:\n"
    "    reclo-ena:\n      match: {driver: ena}\n      dhcp4: true\n      optional: true\n"
    "    reclo-virtio:\n      match: {driver: virtio_net}\n      dhcp4: true\n      optional: "
    "true\n";
constexpr const char* kKeyfileProfile =
    "# Made by ReClo: DHCP where nothing else configures the network.\n"
    "[connection]\nid=reclo-fallback\nuuid=7ec10000-0000-4000-8000-000000000001\ntype=ethernet\n"
    "autoconnect=true\nautoconnect-priority=-100\n\n[match]\ndriver=ena;virtio_net;\n\n"
    "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n";

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.remove_suffix(1);
    out.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

bool any_line(std::string_view text, std::initializer_list<std::string_view> starts) {
  const auto lines = lines_of(text);
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    return std::any_of(starts.begin(), starts.end(),
                       [&](std::string_view start) { return line.starts_with(start); });
  });
}

struct NetworkFile {
  std::string path;
  std::string text;
};

// The plain files of a folder whose names fit.
Result<std::vector<NetworkFile>> network_files(const FixInput& input, const std::string& folder,
                                               std::string_view start, std::string_view end) {
  std::vector<NetworkFile> out;
  RECLO_ASSIGN_OR_RETURN(const auto names, input.files.list(folder));
  for (const std::string& name : names) {
    if (name.starts_with(".") || !name.starts_with(start) || !name.ends_with(end)) continue;
    const std::string path = os::join_path(folder, name);
    RECLO_ASSIGN_OR_RETURN(const auto facts, input.files.stat(path));
    if (!facts || facts->kind != GuestFileKind::kFile) continue;
    RECLO_ASSIGN_OR_RETURN(auto text, read_text(input.files, path));
    if (text) out.push_back({path, std::move(*text)});
  }
  return out;
}

Result<bool> has_program(const FixInput& input, std::initializer_list<const char*> places) {
  for (const char* place : places) {
    RECLO_ASSIGN_OR_RETURN(const bool there, exists(input.files, place));
    if (there) return true;
  }
  return false;
}

// A profile of systemd-networkd, and the service switched on.
Status add_networkd(const FixInput& input, const std::string& match) {
  RECLO_TRY(input.changes.add("/etc/systemd/network/99-reclo-fallback.network",
                              fmt::format(fmt::runtime(kNetworkdProfile), match)));
  for (const char* unit : {"/usr/lib/systemd/system/systemd-networkd.service",
                           "/lib/systemd/system/systemd-networkd.service"}) {
    RECLO_ASSIGN_OR_RETURN(const bool there, exists(input.files, unit));
    if (!there) continue;
    return input.changes.add_link(
        "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service", unit);
  }
  return {};
}

// Returns the names of what was found static and put aside.
class Addresses {
 public:
  Addresses(const FixInput& input, FixReport& report) : input_(input), report_(report) {}

  Status run() {
    RECLO_TRY(netplan());
    RECLO_TRY(networkd());
    RECLO_TRY(ifupdown());
    RECLO_TRY(network_manager());
    RECLO_TRY(red_hat_scripts());
    RECLO_TRY(suse_scripts());
    report_.needed = !found_.empty();
    report_.why = found_.empty() ? "the network takes what DHCP gives, whatever the hardware is"
                                 : fmt::format("{}", fmt::join(found_, "; "));
    return {};
  }

 private:
  bool for_ec2() const { return input_.choices.target == PrepareTarget::kEc2; }
  Status aside(const std::string& path, std::string_view what) {
    found_.push_back(fmt::format("{} {}", path, what));
    return input_.changes.set_aside(path);
  }

  Status netplan() {
    RECLO_ASSIGN_OR_RETURN(const auto files, network_files(input_, "/etc/netplan", "", ".yaml"));
    if (files.empty()) return {};
    bool has_fallback = false;
    for (const NetworkFile& file : files) {
      if (file.path.ends_with("-reclo-fallback.yaml")) {
        has_fallback = true;
      } else if (for_ec2() && any_line(file.text, {"ethernets:"})) {
        RECLO_TRY(aside(file.path, "names the old machine's network"));
      }
    }
    if (!has_fallback) found_.push_back("netplan knows no network card of another machine");
    return input_.changes.add("/etc/netplan/90-reclo-fallback.yaml", kNetplanProfile, 0600);
  }

  Status networkd() {
    RECLO_ASSIGN_OR_RETURN(const auto files,
                           network_files(input_, "/etc/systemd/network", "", ".network"));
    bool any_card = false;
    size_t physical = 0;
    for (const NetworkFile& file : files) {
      if (file.path.ends_with("-reclo-fallback.network")) return {};
      if (any_line(file.text, {"Kind="})) continue;
      ++physical;
      const bool is_static = any_line(file.text, {"Address=", "Gateway="});
      if (is_static && for_ec2())
        RECLO_TRY(aside(file.path, "has a static address"));
      else if (any_line(file.text, {"Name=en*", "Name=e*", "Name=*", "Name=eth*", "Type=ether"}) &&
               !any_line(file.text, {"MACAddress=", "PermanentMACAddress="}))
        any_card = true;
    }
    if (physical == 0 || any_card) return {};
    found_.push_back("systemd-networkd knows no network card of another machine");
    return add_networkd(input_, "");
  }

  // ifupdown knows cards by their names only, so systemd-networkd takes what it leaves.
  Status ifupdown() {
    RECLO_ASSIGN_OR_RETURN(const auto main, read_text(input_.files, "/etc/network/interfaces"));
    RECLO_ASSIGN_OR_RETURN(auto files, network_files(input_, "/etc/network/interfaces.d", "", ""));
    if (!main && files.empty()) return {};
    std::vector<std::string> names = interface_names(main.value_or(""));
    const bool in_main = !names.empty();
    for (const NetworkFile& file : files) {
      const auto more = interface_names(file.text);
      if (!more.empty() && for_ec2())
        RECLO_TRY(aside(file.path, "names the old machine's network"));
      names.insert(names.end(), more.begin(), more.end());
    }
    if (names.empty()) return {};
    if (in_main && for_ec2()) {
      found_.push_back(
          fmt::format("/etc/network/interfaces configures {} only", fmt::join(names, ", ")));
      RECLO_TRY(input_.changes.replace("/etc/network/interfaces",
                                       "# Made by ReClo: systemd-networkd asks DHCP here; the "
                                       "original is kept in /var/lib/reclo/prepared.\n"
                                       "auto lo\niface lo inet loopback\n"));
    }
    RECLO_ASSIGN_OR_RETURN(const bool networkd,
                           has_program(input_, {"/usr/lib/systemd/systemd-networkd",
                                                "/lib/systemd/systemd-networkd"}));
    if (networkd) {
      if (!for_ec2()) found_.push_back("ifupdown knows no network card of another machine");
      return add_networkd(input_,
                          for_ec2() ? "" : fmt::format("Name=!{}\n", fmt::join(names, " ")));
    }
    if (!for_ec2()) return {};
    // Without it: the names that EC2's first card is known to get.
    return input_.changes.replace(
        "/etc/network/interfaces",
        "# Made by ReClo; the original is kept in /var/lib/reclo/prepared.\n"
        "auto lo\niface lo inet loopback\n"
        "allow-hotplug ens5\niface ens5 inet dhcp\nallow-hotplug eth0\niface eth0 inet dhcp\n");
  }

  static std::vector<std::string> interface_names(std::string_view text) {
    std::vector<std::string> out;
    for (const std::string& line : lines_of(text)) {
      if (!line.starts_with("iface ")) continue;
      const std::string name = line.substr(6, line.find(' ', 6) - 6);
      const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-';
      });
      if (name != "lo" && !name.empty() && plain && name.size() < 16 && out.size() < 64 &&
          std::find(out.begin(), out.end(), name) == out.end())
        out.push_back(name);
    }
    return out;
  }

  Status network_manager() {
    RECLO_ASSIGN_OR_RETURN(const bool there, has_program(input_, {"/usr/sbin/NetworkManager",
                                                                  "/usr/bin/NetworkManager"}));
    if (!there) return {};
    const std::string folder = "/etc/NetworkManager/system-connections";
    RECLO_ASSIGN_OR_RETURN(const auto files, network_files(input_, folder, "", ""));
    for (const NetworkFile& file : files) {
      if (file.path.ends_with("reclo-fallback.nmconnection")) return {};
      if (for_ec2() && any_line(file.text, {"type=ethernet", "type=802-3-ethernet"}) &&
          any_line(file.text, {"method=manual"}))
        RECLO_TRY(aside(file.path, "has a static address"));
    }
    found_.push_back("NetworkManager knows no network card of another machine");
    return input_.changes.add(folder + "/reclo-fallback.nmconnection", kKeyfileProfile, 0600);
  }

  Status red_hat_scripts() {
    const std::string folder = "/etc/sysconfig/network-scripts";
    RECLO_ASSIGN_OR_RETURN(const auto files, network_files(input_, folder, "ifcfg-", ""));
    bool cards = false;
    for (const NetworkFile& file : files) {
      if (file.path.ends_with("/ifcfg-lo")) continue;
      if (any_line(file.text, {"# Made by ReClo"})) return {};
      cards = true;
      if (for_ec2() && any_line(file.text, {"IPADDR"}))
        RECLO_TRY(aside(file.path, "has a static address"));
    }
    RECLO_ASSIGN_OR_RETURN(const bool managed, has_program(input_, {"/usr/sbin/NetworkManager"}));
    if (!cards || managed || !for_ec2()) return {};
    for (const char* name : {"eth0", "ens5"})
      RECLO_TRY(input_.changes.add(
          fmt::format("{}/ifcfg-{}", folder, name),
          fmt::format("# Made by ReClo\nDEVICE={}\nBOOTPROTO=dhcp\nONBOOT=yes\nTYPE=Ethernet\n",
                      name)));
    found_.push_back("the network scripts know no network card of another machine");
    return {};
  }

  Status suse_scripts() {
    const std::string folder = "/etc/sysconfig/network";
    RECLO_ASSIGN_OR_RETURN(const auto files, network_files(input_, folder, "ifcfg-", ""));
    bool cards = false;
    for (const NetworkFile& file : files) {
      if (file.path.ends_with("/ifcfg-lo") || file.path.ends_with(".template")) continue;
      if (any_line(file.text, {"# Made by ReClo"})) return {};
      cards = true;
      if (for_ec2() && any_line(file.text, {"IPADDR"}))
        RECLO_TRY(aside(file.path, "has a static address"));
    }
    if (!cards || !for_ec2()) return {};
    for (const char* name : {"eth0", "ens5"})
      RECLO_TRY(input_.changes.add(fmt::format("{}/ifcfg-{}", folder, name),
                                   "# Made by ReClo\nBOOTPROTO='dhcp'\nSTARTMODE='hotplug'\n"));
    found_.push_back("wicked knows no network card of another machine");
    return {};
  }

  const FixInput& input_;
  FixReport& report_;
  std::vector<std::string> found_;
};

// The text without the lines that bind it to a card's hardware address.
std::string without_hardware_address(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (!line.starts_with("HWADDR=") && !line.starts_with("mac-address=")) {
      out += line;
      if (end < text.size()) out += '\n';
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace

// Rules and lines that bind a name to the old card's hardware address.
Status fix_network_names(const FixInput& input, FixReport& report) {
  std::vector<std::string> found;
  for (const char* path : {"/etc/udev/rules.d/70-persistent-net.rules",
                           "/etc/udev/rules.d/75-persistent-net-generator.rules",
                           "/etc/udev/rules.d/70-persistent-cd.rules"}) {
    RECLO_ASSIGN_OR_RETURN(const auto facts, input.files.stat(path));
    if (!facts || facts->kind != GuestFileKind::kFile || facts->size_bytes == 0) continue;
    found.emplace_back(path);
    RECLO_TRY(input.changes.set_aside(path));
  }
  for (const auto& [folder, start] : {std::pair{"/etc/sysconfig/network-scripts", "ifcfg-"},
                                      std::pair{"/etc/NetworkManager/system-connections", ""}}) {
    RECLO_ASSIGN_OR_RETURN(const auto files, network_files(input, folder, start, ""));
    for (const NetworkFile& file : files) {
      const std::string text = without_hardware_address(file.text);
      if (text == file.text) continue;
      found.push_back(file.path);
      RECLO_TRY(input.changes.replace(file.path, text));
    }
  }
  report.needed = !found.empty();
  report.why = found.empty() ? "no network card is known by its hardware address"
                             : fmt::format("the old card's hardware address is in {}",
                                           fmt::join(found, ", "));
  return {};
}

Status fix_network_addresses(const FixInput& input, FixReport& report) {
  return Addresses(input, report).run();
}

// The old site's name servers are out of reach until its VPN is up: EC2's own is asked first.
Status fix_name_servers(const FixInput& input, FixReport& report) {
  constexpr std::string_view kEc2Resolver = "nameserver 169.254.169.253";
  report.why = "name servers come with the network";
  if (input.choices.target != PrepareTarget::kEc2) return {};
  RECLO_ASSIGN_OR_RETURN(const auto facts, input.files.stat("/etc/resolv.conf"));
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(input.files, "/etc/resolv.conf"));
  if (!facts || facts->kind != GuestFileKind::kFile || !text ||
      any_line(*text, {kEc2Resolver, "nameserver 127."}))
    return {};
  report.needed = true;
  report.why = any_line(*text, {"nameserver "})
                   ? "/etc/resolv.conf names the old site's servers only"
                   : "/etc/resolv.conf names no server";
  return input.changes.replace("/etc/resolv.conf", fmt::format("{}\n{}", kEc2Resolver, *text));
}

}  // namespace reclo::recovery
