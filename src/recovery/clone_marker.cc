#include "recovery/clone_marker.h"

#include <fmt/format.h>

#include <cstdlib>

#include "base/json.h"
#include "base/log.h"
#include "base/record_error.h"
#include "os/file.h"
#include "repo/machine.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kMarkerVersion = 1;
constexpr size_t kDmiSizeBytesMax = 4096;
constexpr const char* kFwCfgPath = "/sys/firmware/qemu_fw_cfg/by_name/opt/reclo/recovered/raw";
constexpr const char* kSmbiosStringsPath = "/sys/firmware/dmi/entries/11-0/raw";
constexpr std::string_view kSmbiosWord = "reclo-instance:";

// The marker in an instance's user data (failover_record.h) has the same under other names.
Result<std::string> either(const Json& json, std::string_view name, std::string_view other) {
  return json_get<std::string>(json, json.contains(name) ? name : other);
}

Result<CloneMarker> decode_fields(const Json& json) {
  if (!json.is_object()) return Error(Code::kCorruption, "it is no object");
  RECLO_ASSIGN_OR_RETURN(
      const uint32_t version,
      json_get<uint32_t>(json, json.contains("reclo_clone") ? "reclo_clone" : "version"));
  if (version != kMarkerVersion)
    return Error(Code::kUnsupported, fmt::format("it is of version {}, this program knows {}",
                                                 version, kMarkerVersion));
  CloneMarker out;
  RECLO_ASSIGN_OR_RETURN(out.from_point, either(json, "from_point", "recovered_from"));
  RECLO_TRY(PointId::parse(out.from_point));
  RECLO_ASSIGN_OR_RETURN(out.server, json_get<std::string>(json, "server"));
  RECLO_TRY(repo::check_server_name(out.server));
  RECLO_ASSIGN_OR_RETURN(out.target, json_get_or<std::string>(json, "target", ""));
  RECLO_ASSIGN_OR_RETURN(out.drill, json_get_or<bool>(json, "drill", false));
  RECLO_ASSIGN_OR_RETURN(const std::string made, either(json, "made", "recovered_at"));
  RECLO_ASSIGN_OR_RETURN(out.made, parse_time(made));
  return out;
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A short line of sysfs or /etc; empty when there is none, or we may not read it.
std::string read_line(const std::string& path) {
  const auto text = os::read_file(path, kDmiSizeBytesMax);
  if (!text.ok()) return "";
  std::string line(as_text(*text));
  line.resize(std::min(line.find_first_of("\r\n"), line.size()));
  return line;
}

backup::RecoveredCopy copy_of(const std::string& path) {
  backup::RecoveredCopy copy;
  copy.found_in = path;
  const auto text = os::read_file(path, kCloneMarkerSizeBytesMax);
  const auto marker =
      text.ok() ? decode_clone_marker(as_text(*text)) : Result<CloneMarker>(text.error());
  if (!marker.ok()) {
    log_warning("{} says that this is a recovered copy, and cannot be read: {}", path,
                marker.error().message());
    return copy;
  }
  copy.server = marker->server;
  copy.point = marker->from_point;
  return copy;
}

}  // namespace

std::string encode_clone_marker(const CloneMarker& marker) {
  const Json json = {{"version", kMarkerVersion}, {"from_point", marker.from_point},
                     {"server", marker.server},   {"target", marker.target},
                     {"drill", marker.drill},     {"made", format_time(marker.made)}};
  return dump_json(json, 1) + "\n";
}

Result<CloneMarker> decode_clone_marker(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(text, "the marker of a recovered copy",
                                                     kCloneMarkerSizeBytesMax));
  return name_unusable(decode_fields(json), "the marker of a recovered copy is none");
}

IdentityPlaces IdentityPlaces::from_environment() {
  return {environment("RECLO_IDENTITY_ROOT"), environment("RECLO_CLONE_MARKER")};
}

backup::IdentityClaim look_at_this_machine(const IdentityPlaces& places) {
  backup::IdentityClaim claim;
  claim.hardware.product_uuid = read_line(places.root + "/sys/class/dmi/id/product_uuid");
  claim.hardware.machine_id = read_line(places.root + "/etc/machine-id");
  if (!places.marker_path.empty()) {
    if (os::path_exists(places.marker_path)) claim.copy = copy_of(places.marker_path);
    return claim;
  }
  for (const char* path : {kCloneMarkerPath, kUserDataMarkerPath, kFwCfgPath})
    if (!claim.copy && os::path_exists(places.root + path))
      claim.copy = copy_of(places.root + path);
  if (claim.copy) return claim;
  const auto strings = os::read_file(places.root + kSmbiosStringsPath, kDmiSizeBytesMax);
  if (strings.ok() && as_text(*strings).find(kSmbiosWord) != std::string_view::npos)
    claim.copy = backup::RecoveredCopy{"", "", "SMBIOS"};
  return claim;
}

}  // namespace reclo::recovery
