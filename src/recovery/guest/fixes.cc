#include "recovery/guest/fix.h"

namespace reclo::recovery {
namespace {

constexpr Fix kFixes[] = {
    {"initramfs-drivers", fix_drivers},
    {"network-driver", fix_network_driver},
    {"fstab", fix_mounts},
    {"network-mounts", fix_network_mounts},
    {"crypttab", fix_crypttab},
    {"device-caches", fix_device_caches},
    {"root-argument", fix_root_argument},
    {"kernel-arguments", fix_kernel_arguments},
    {"uefi-fallback", fix_uefi_fallback},
    {"boot-loader", fix_boot_loader},
    {"network-names", fix_network_names},
    {"network-addresses", fix_network_addresses},
    {"name-servers", fix_name_servers},
    {"cloud-init", fix_cloud_init},
    {"hypervisor-tools", note_hypervisor_tools},
    {"firewall", note_firewall},
    {"ssh-key", add_ssh_key},
    {"first-boot-script", add_first_boot_script},
    {"clone-marker", add_clone_marker},
};

}  // namespace

Result<std::vector<FixReport>> run_fixes(const FixInput& input) {
  std::vector<FixReport> reports;
  for (const Fix& fix : kFixes) {
    FixReport report;
    report.name = fix.name;
    RECLO_TRY_WITH(fix.run(input, report), fix.name);
    report.files = input.changes.take_touched();
    reports.push_back(std::move(report));
  }
  RECLO_TRY(input.changes.finish());
  return reports;
}

std::string blockers(const std::vector<FixReport>& reports) {
  std::string out;
  for (const FixReport& report : reports)
    if (!report.blocker.empty()) out += (out.empty() ? "" : "; ") + report.blocker;
  return out;
}

}  // namespace reclo::recovery
