// What is known of a server's way home: failback.json, written durably before each act, versioned.
//
//   seeding ──(each disk: base restored ─▶ rounds: snapshot ─▶ its changes written ─▶ noted)──▶
//   stopping ─▶ stopped ─▶ last round ─▶ verified ─▶ prepared for home ─▶ done
//       └───────────────────── abandoned ◀────────────────┘
//
// A disk's target holds what `held` says, and, after an interrupted round, part of what `pending`
// says: every write of a round may be repeated. Values; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "cloud/ec2_client.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {

enum class FailbackState { kSeeding, kStopping, kStopped, kVerified, kHome, kDone, kAbandoned };
std::string_view failback_state_name(FailbackState state);

struct FailbackDisk {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
  std::string target;
  std::string target_identity;  // device and inode: another disk under the same name is noticed
  bool base_restored = false;   // the target held the recovery point once
  // EC2 only.
  cloud::VolumeId volume;               // of the running instance
  cloud::SnapshotId held;               // the target holds this snapshot; first: the failover's
  std::vector<BlockSpan> extra_blocks;  // where `held` differs from the recovery point, at first
  bool everything = false;              // what the target holds is not known: compare all blocks
  cloud::SnapshotId pending;            // the round's snapshot, perhaps half written
  int64_t pending_created_ms = 0;       // Unix time
  int64_t held_created_ms = 0;          // 0: the failover's
  bool operator==(const FailbackDisk&) const = default;
};

/// One disk's part of a round, measured.
struct FailbackRound {
  uint32_t number = 0;
  uint32_t disk = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  int64_t snapshot_ms = 0;  // until the snapshot could be read
  int64_t write_ms = 0;     // fetching and writing
  int64_t since_ms = 0;     // between the two snapshots; 0: not known
  bool operator==(const FailbackRound&) const = default;
};

struct FailbackRecord {
  std::string id;  // 12 hex digits
  std::string server;
  std::string source;    // "ec2" or "qemu"
  std::string instance;  // "i-…", or the instance's id here
  std::string region;
  RepositoryId repository;
  MachineId machine;
  PointId point;  // the instance was started from it
  FailbackState state = FailbackState::kSeeding;
  uint32_t round = 0;       // the one that is being done, or was done last
  uint32_t last_round = 0;  // the one after the instance was stopped; 0: not begun
  /// Whether the instance's disks were prepared for elsewhere; unset: nobody can tell.
  std::optional<bool> prepared = false;
  bool force = false;  // as the operator said at the first seed
  WallTime started_at{};
  std::vector<FailbackDisk> disks;
  std::vector<FailbackRound> rounds;         // the newest kRoundsKeptMax
  std::vector<cloud::SnapshotId> leftovers;  // of earlier rounds, to be deleted
  bool operator==(const FailbackRecord&) const = default;
};

inline constexpr size_t kFailbackSizeBytesMax = size_t{16} << 20;
inline constexpr size_t kRoundsKeptMax = 200;

std::string encode_failback(const FailbackRecord& record);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<FailbackRecord> decode_failback(std::string_view text);

/// How long a cutover would keep the server away, from the newest round: what is written until
/// then, at the speed measured. Nothing before a disk has had two rounds.
struct CutoverForecast {
  double blocks = 0;
  double seconds = 0;
};
std::optional<CutoverForecast> forecast_cutover(const FailbackRecord& record);

}  // namespace reclo::recovery
