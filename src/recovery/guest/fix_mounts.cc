// Names of disks that change with the machine: fstab, crypttab, LVM's and blkid's memories.
#include <fmt/format.h>

#include <algorithm>

#include "recovery/guest/fix.h"

namespace reclo::recovery {
namespace {

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (true) {
    const size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

std::string join_lines(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

bool has_option(const std::string& options, std::string_view option) {
  return ("," + options + ",").find(fmt::format(",{},", option)) != std::string::npos;
}

// Adds options where they are missing; "defaults" alone goes.
std::string with_options(std::string options, const std::vector<std::string>& added) {
  if (options == "defaults" || options == "-") options.clear();
  for (const std::string& option : added)
    if (!has_option(options, option)) options += (options.empty() ? "" : ",") + option;
  return options;
}

std::string fstab_line(const std::vector<std::string>& fields) {
  return fmt::format("{}", fmt::join(fields, "\t"));
}

bool must_be_there(const std::string& folder) {
  return folder == "/" || folder == "/usr" || folder == "/var" || folder == "/boot";
}

bool is_network_mount(const FstabLine& line) {
  static constexpr std::string_view kTypes[] = {"nfs",   "nfs4",      "cifs", "smb3",
                                                "sshfs", "glusterfs", "ceph", "fuse.sshfs"};
  return std::find(std::begin(kTypes), std::end(kTypes), line.fields[2]) != std::end(kTypes) ||
         has_option(line.fields[3], "_netdev");
}

bool is_pseudo(const FstabLine& line) {
  const std::string& spec = line.fields[0];
  return !spec.starts_with("/dev/") && spec.find('=') == std::string::npos;
}

}  // namespace

// Every volume by its UUID, and a volume that is not in the backup does not hold up the start.
Status fix_mounts(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(input.files, "/etc/fstab"));
  if (!text) {
    report.why = "there is no /etc/fstab";
    return {};
  }
  std::vector<std::string> lines = split_lines(*text);
  std::vector<std::string> found;
  for (const FstabLine& line : parse_fstab(*text)) {
    if (is_network_mount(line) || is_pseudo(line)) continue;
    std::vector<std::string> fields = line.fields;
    const GuestVolume* const volume = resolve_device(input.facts, fields[0]);
    const bool by_place = is_named_by_place(fields[0]);
    if (by_place && volume != nullptr && !volume->uuid.empty()) {
      found.push_back(fmt::format("{} was mounted as {}", fields[1], fields[0]));
      fields[0] = "UUID=" + volume->uuid;
    } else if (volume == nullptr && !must_be_there(fields[1]) && !has_option(fields[3], "nofail")) {
      found.push_back(fmt::format("{} ({}) is not in the backup", fields[1], fields[0]));
      fields[3] = with_options(fields[3], {"nofail", "x-systemd.device-timeout=10s"});
    } else {
      continue;
    }
    lines[line.number] = fstab_line(fields);
  }
  report.needed = !found.empty();
  report.why = found.empty() ? "every volume is mounted by a name of its own"
                             : fmt::format("{}", fmt::join(found, "; "));
  return input.changes.replace("/etc/fstab", join_lines(lines));
}

Status fix_network_mounts(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(input.files, "/etc/fstab"));
  std::vector<std::string> lines = split_lines(text.value_or(""));
  std::vector<std::string> found;
  for (const FstabLine& line : parse_fstab(text.value_or(""))) {
    if (!is_network_mount(line)) continue;
    std::vector<std::string> fields = line.fields;
    fields[3] = with_options(fields[3], {"nofail", "_netdev", "x-systemd.mount-timeout=10s"});
    if (fields[3] == line.fields[3]) continue;
    found.push_back(fields[1]);
    lines[line.number] = fstab_line(fields);
  }
  report.needed = !found.empty();
  report.why = found.empty() ? "nothing is mounted over the network that the start would wait for"
                             : fmt::format("the start would wait for {}", fmt::join(found, ", "));
  return found.empty() ? Status() : input.changes.replace("/etc/fstab", join_lines(lines));
}

Status fix_crypttab(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(input.files, "/etc/crypttab"));
  std::vector<std::string> lines = split_lines(text.value_or(""));
  std::vector<std::string> found;
  for (const FstabLine& line : parse_fstab(text.value_or(""))) {
    std::vector<std::string> fields = line.fields;  // name, device, key, options
    const GuestVolume* const volume = resolve_device(input.facts, fields[1]);
    if (!is_named_by_place(fields[1]) || volume == nullptr || volume->uuid.empty()) continue;
    found.push_back(fmt::format("{} was {}", fields[0], fields[1]));
    fields[1] = "UUID=" + volume->uuid;
    lines[line.number] = fstab_line(fields);
  }
  report.needed = !found.empty();
  report.why = found.empty() ? "no encrypted volume is named by its place"
                             : fmt::format("{}", fmt::join(found, "; "));
  return found.empty() ? Status() : input.changes.replace("/etc/crypttab", join_lines(lines));
}

// Lists of devices that LVM and blkid believed to be the only ones.
Status fix_device_caches(const FixInput& input, FixReport& report) {
  for (const char* path : {"/etc/lvm/devices/system.devices", "/etc/lvm/cache/.cache",
                           "/etc/blkid.tab", "/etc/blkid/blkid.tab"}) {
    RECLO_ASSIGN_OR_RETURN(const auto facts, input.files.stat(path));
    if (!facts || facts->kind != GuestFileKind::kFile) continue;
    RECLO_TRY(input.changes.set_aside(path));
    report.needed = true;
    report.why += fmt::format("{}{} lists the devices of the old machine",
                              report.why.empty() ? "" : "; ", path);
  }
  if (!report.needed) report.why = "no list of the old machine's devices is kept";
  return {};
}

}  // namespace reclo::recovery
