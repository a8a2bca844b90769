// How a recovered copy knows that it is one: a marker that failover leaves where the copy's own
// backup agent finds it, and what the hardware says of itself. DESIGN §6, clone safety.
//
// The marker is JSON: {"version":1,"from_point","server","target","drill","made"}. It is looked
// for, in this order: /etc/reclo/recovered.json (guest preparation writes it into the recovered
// disk), QEMU's fw_cfg (opt/reclo/recovered), and the SMBIOS string that names a ReClo instance,
// which tells no more than that. One that cannot be read still counts: better no backup than one in
// the wrong chain. Any thread.
#pragma once

#include <optional>
#include <string>

#include "backup/server_identity.h"
#include "base/result.h"
#include "base/time.h"

namespace reclo::recovery {

inline constexpr const char* kCloneMarkerPath = "/etc/reclo/recovered.json";
/// What cloud-init makes of a failover's user data.
inline constexpr const char* kUserDataMarkerPath = "/etc/reclo/clone.json";
inline constexpr const char* kCloneMarkerFwCfg = "opt/reclo/recovered";
inline constexpr size_t kCloneMarkerSizeBytesMax = size_t{64} << 10;

struct CloneMarker {
  std::string from_point;  // the recovery point's id, in hex
  std::string server;
  std::string target;  // "ec2", "qemu", "ec2-host"
  bool drill = false;
  WallTime made{};
  bool operator==(const CloneMarker&) const = default;
};

std::string encode_clone_marker(const CloneMarker& marker);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<CloneMarker> decode_clone_marker(std::string_view text);

/// Where to look: `root` stands before every path; `marker_path`, when set, is the only place.
/// Tests set them by RECLO_IDENTITY_ROOT and RECLO_CLONE_MARKER.
struct IdentityPlaces {
  std::string root;
  std::string marker_path;
  static IdentityPlaces from_environment();
};

/// What this machine is, for backup::BackupOptions: hardware, and whether it is a recovered copy.
backup::IdentityClaim look_at_this_machine(const IdentityPlaces& places);

}  // namespace reclo::recovery
