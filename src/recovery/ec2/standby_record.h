// What is known of a server's standby: standby.json, written durably, versioned.
//
//   pending ──(each disk: snapshot started ─▶ blocks put ─▶ completed)──▶ image registered ─▶
//   current
//
// A refresh that was interrupted is in `pending`: the next one for the same point goes on with it,
// one for another point removes what it left. The old standby stays current until the new one is
// proven. Values; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "cloud/ec2_client.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {

struct StandbyDisk {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
  cloud::SnapshotId snapshot;               // empty: not started yet
  std::optional<cloud::SnapshotId> parent;  // it is a child of this one
  bool completed = false;
  uint32_t blocks_put = 0;
  std::vector<BlockSpan> overlay_spans;  // where its content is not the point's own
  bool operator==(const StandbyDisk&) const = default;
};

/// A recovery point as snapshots and, when `image` is set, as something that can be started.
struct Standby {
  PointId point;
  WallTime point_time{};
  uint32_t attempt = 0;  // distinguishes client tokens and names of the same point
  cloud::BootMode boot_mode = cloud::BootMode::kBios;
  cloud::ImageId image;
  std::string overlay;  // the id of what was laid over the point; empty: nothing
  std::vector<StandbyDisk> disks;
  WallTime refreshed_at{};
  int64_t duration_ms = 0;
  bool operator==(const Standby&) const = default;
};

struct StandbyRecord {
  std::string server;
  MachineId machine;
  std::string region;
  std::string keeper;  // which state folder made it: two machines leave each other's alone
  uint32_t attempts = 0;
  std::optional<Standby> current;
  std::optional<Standby> pending;
  std::vector<Standby> old;  // to be removed by policy, oldest first
  bool operator==(const StandbyRecord&) const = default;
};

inline constexpr size_t kStandbySizeBytesMax = size_t{16} << 20;

std::string encode_standby(const StandbyRecord& record);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<StandbyRecord> decode_standby(std::string_view text);

}  // namespace reclo::recovery
