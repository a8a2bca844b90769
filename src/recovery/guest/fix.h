// A fix: one small thing without which a server would not start, or not be reached, elsewhere.
//
// Each looks first (detect), says why it matters, and changes as little as it can, through
// GuestChanges. Fixes do not depend on each other's order, except that the clone marker is last.
// The table that they come from: docs/guide/ec2.md. Thread rule: one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "recovery/guest/guest_changes.h"
#include "recovery/guest/guest_facts.h"
#include "recovery/guest/guest_files.h"

namespace reclo::recovery {

struct PrepareChoices {
  PrepareTarget target = PrepareTarget::kEc2;
  std::string ssh_key;            // a line for root's authorized_keys; empty: none
  std::string first_boot_script;  // its content; empty: none
  std::string server;             // for the clone marker
  std::string point;
  std::string made;
};

struct FixReport {
  std::string name;
  bool needed = false;             // something was found that had to be changed, or cannot be
  std::string why;                 // what was found, in words
  std::vector<std::string> files;  // what was changed
  std::string blocker;             // not empty: the server will not start, and this is why
  bool operator==(const FixReport&) const = default;
};

struct FixInput {
  GuestFiles& files;
  GuestChanges& changes;
  const GuestFacts& facts;
  const PrepareChoices& choices;
};

struct Fix {
  const char* name;
  /// Fills needed, why and blocker; `files` is filled by run_fixes().
  Status (*run)(const FixInput& input, FixReport& report);
};

Status fix_drivers(const FixInput& input, FixReport& report);
Status fix_network_driver(const FixInput& input, FixReport& report);
Status fix_mounts(const FixInput& input, FixReport& report);
Status fix_network_mounts(const FixInput& input, FixReport& report);
Status fix_crypttab(const FixInput& input, FixReport& report);
Status fix_device_caches(const FixInput& input, FixReport& report);
Status fix_root_argument(const FixInput& input, FixReport& report);
Status fix_kernel_arguments(const FixInput& input, FixReport& report);
Status fix_uefi_fallback(const FixInput& input, FixReport& report);
Status fix_boot_loader(const FixInput& input, FixReport& report);
Status fix_network_names(const FixInput& input, FixReport& report);
Status fix_network_addresses(const FixInput& input, FixReport& report);
Status fix_name_servers(const FixInput& input, FixReport& report);
Status fix_cloud_init(const FixInput& input, FixReport& report);
Status note_hypervisor_tools(const FixInput& input, FixReport& report);
Status note_firewall(const FixInput& input, FixReport& report);
Status add_ssh_key(const FixInput& input, FixReport& report);
Status add_first_boot_script(const FixInput& input, FixReport& report);
Status add_clone_marker(const FixInput& input, FixReport& report);

/// Runs them all. Errors: a fix could not look or write; the guest is then half changed and has to
/// be thrown away.
Result<std::vector<FixReport>> run_fixes(const FixInput& input);

/// Why it will not start, joined; empty when it will.
std::string blockers(const std::vector<FixReport>& reports);

}  // namespace reclo::recovery
