// What keeps a recovered server itself (cloud-init), what is only noted, and what was asked for.
#include <fmt/format.h>

#include "base/json.h"
#include "recovery/guest/fix.h"

namespace reclo::recovery {
namespace {

struct Seen {
  const char* path;
  const char* name;
};

Result<std::string> names_of(const FixInput& input, std::initializer_list<Seen> things) {
  std::string out;
  for (const Seen& thing : things) {
    RECLO_ASSIGN_OR_RETURN(const bool there, exists(input.files, thing.path));
    if (there && out.find(thing.name) == std::string::npos)
      out += (out.empty() ? "" : ", ") + std::string(thing.name);
  }
  return out;
}

}  // namespace

// cloud-init must not take a recovered server for a new one: no new name, no new host keys, no
// waiting for clouds that are not there.
Status fix_cloud_init(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const bool there, exists(input.files, "/etc/cloud/cloud.cfg"));
  if (!there) {
    report.why = "cloud-init is not installed";
    return {};
  }
  const char* const sources =
      input.choices.target == PrepareTarget::kEc2 ? "Ec2, None" : "NoCloud, None";
  const std::string text = fmt::format(
      "# Made by ReClo: this is the same server, in another place.\n"
      "preserve_hostname: true\nmanage_etc_hosts: false\nssh_deletekeys: false\n"
      "datasource_list: [ {} ]\nnetwork: {{config: disabled}}\n",
      sources);
  RECLO_ASSIGN_OR_RETURN(const auto before,
                         read_text(input.files, "/etc/cloud/cloud.cfg.d/99-reclo.cfg"));
  report.needed = before != text;
  report.why = report.needed ? "cloud-init would take it for a new server"
                             : "cloud-init knows that it is the same server";
  return input.changes.add("/etc/cloud/cloud.cfg.d/99-reclo.cfg", text);
}

Status note_hypervisor_tools(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const std::string found,
                         names_of(input, {{"/usr/bin/vmtoolsd", "VMware's tools"},
                                          {"/usr/sbin/VBoxService", "VirtualBox's additions"},
                                          {"/usr/sbin/xe-daemon", "Xen's tools"},
                                          {"/usr/sbin/hv_kvp_daemon", "Hyper-V's daemons"},
                                          {"/usr/bin/prltoolsd", "Parallels' tools"}}));
  report.why = found.empty() ? "no other hypervisor's tools are installed"
                             : found + ": left as they are; they find nothing to do";
  return {};
}

Status note_firewall(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const std::string found,
                         names_of(input, {{"/etc/nftables.conf", "nftables"},
                                          {"/usr/sbin/ufw", "ufw"},
                                          {"/usr/sbin/firewalld", "firewalld"},
                                          {"/etc/iptables/rules.v4", "iptables"}}));
  report.why = found.empty() ? "no firewall of its own"
                             : found + ": left as it is; what it lets in at home, it lets in there";
  return {};
}

Status add_ssh_key(const FixInput& input, FixReport& report) {
  const std::string path = "/root/.ssh/authorized_keys";
  report.why = "no key was asked for";
  if (input.choices.ssh_key.empty()) return {};
  report.why = "the key that was asked for is there";
  RECLO_ASSIGN_OR_RETURN(const auto before, read_text(input.files, path));
  std::string text = before.value_or("");
  if (text.find(input.choices.ssh_key) != std::string::npos) return {};
  if (!text.empty() && text.back() != '\n') text += '\n';
  report.needed = true;
  report.why = "a key for root was asked for";
  RECLO_TRY(input.changes.add(path, text + input.choices.ssh_key + "\n", 0600));
  return before ? Status() : input.files.set_mode("/root/.ssh", 0700);
}

Status add_first_boot_script(const FixInput& input, FixReport& report) {
  report.why = "no script was asked for";
  if (input.choices.first_boot_script.empty()) return {};
  RECLO_ASSIGN_OR_RETURN(const std::string systemd,
                         names_of(input, {{"/usr/lib/systemd/systemd", "systemd"},
                                          {"/lib/systemd/systemd", "systemd"}}));
  if (systemd.empty()) {
    report.blocker = "a script at the first start was asked for, and the server has no systemd";
    report.why = report.blocker;
    return {};
  }
  report.needed = true;
  report.why = "a script at the first start was asked for";
  RECLO_TRY(
      input.changes.add("/usr/local/lib/reclo/first-boot", input.choices.first_boot_script, 0700));
  RECLO_TRY(input.changes.add(
      "/etc/systemd/system/reclo-first-boot.service",
      "[Unit]\nDescription=What was asked for at the first start after a recovery\n"
      "ConditionPathExists=!/var/lib/reclo/first-boot.done\nAfter=network-online.target\n"
      "Wants=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
      "ExecStart=/usr/local/lib/reclo/first-boot\n"
      "ExecStartPost=/bin/sh -c 'mkdir -p /var/lib/reclo && touch /var/lib/reclo/first-boot.done'\n"
      "\n[Install]\nWantedBy=multi-user.target\n"));
  return input.changes.add_link(
      "/etc/systemd/system/multi-user.target.wants/reclo-first-boot.service",
      "/etc/systemd/system/reclo-first-boot.service");
}

// By this the agent in the copy knows that it is one, and leaves the original's backups alone.
Status add_clone_marker(const FixInput& input, FixReport& report) {
  report.needed = true;
  report.why = "its own agent has to know that it was recovered";
  const Json marker = {
      {"version", 1},
      {"from_point", input.choices.point},
      {"server", input.choices.server},
      {"target", input.choices.target == PrepareTarget::kEc2 ? "ec2" : "qemu"},
      {"made", input.choices.made},
  };
  return input.changes.add("/etc/reclo/recovered.json", dump_json(marker, 1) + "\n");
}

}  // namespace reclo::recovery
