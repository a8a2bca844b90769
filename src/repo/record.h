// The records of a session: `begin` (what it pins) and `end` (the recovery point: THE commit, or
// the word "fenced"). docs/format.md §3.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "crypto/sealing.h"
#include "repo/map_node.h"

namespace reclo::repo {

enum class SessionKind { kBackup, kReader };

struct BeginRecord {
  SessionKind kind = SessionKind::kBackup;
  MachineId machine;
  SessionId session;
  WallTime started;
  std::vector<PointId> pins;
};

enum class Consistency { kCrash, kFileSystem, kApplication };
enum class PointKind { kFull, kIncremental };

struct DiskRecord {
  std::string name;    // the path or name it was backed up under
  std::string format;  // "block", "raw", "qcow2" …: what it was read from
  uint64_t size_bytes = 0;
  uint8_t map_height = 0;
  std::optional<NodeRef> map_root;  // nothing: the whole disk is a hole
  // Statistics, for people:
  uint64_t allocated_bytes = 0;  // what had to be kept: not holes, not free
  uint64_t read_bytes = 0;
  uint64_t new_bytes = 0;  // raw bytes of pages that were stored by this point
};

struct StageTime {
  std::string name;
  uint64_t busy_ms = 0;  // summed over its threads
};

struct PointStatistics {
  uint64_t stored_bytes = 0;    // sealed data chunks written by this point
  uint64_t map_bytes = 0;       // sealed map nodes
  uint64_t uploaded_bytes = 0;  // everything sent, records and retries included
  uint64_t put_requests = 0;
  uint64_t duration_ms = 0;
  std::vector<StageTime> stages;
  std::string slowest_stage;
};

struct PointRecord {
  MachineId machine;
  PointId id;  // == its session
  std::string server;
  uint64_t sequence = 0;            // 1, 2, 3 … per machine
  std::optional<PointId> previous;  // the point with sequence - 1
  std::string previous_digest;  // SHA-256 (hex) of that point's `end` object; empty for the first
  WallTime started;
  WallTime taken;  // the moment the disks' content belongs to
  WallTime finished;
  PointKind kind = PointKind::kFull;
  Consistency consistency = Consistency::kCrash;
  std::string program_version;
  std::vector<DiskRecord> disks;
  PointStatistics statistics;
};

std::string_view consistency_name(Consistency consistency);
std::string_view point_kind_name(PointKind kind);

Bytes encode_begin(const BeginRecord& record, const RepositoryId& repository,
                   const crypto::SigningKeyPair* signer);
Result<BeginRecord> decode_begin(ByteSpan object, const RepositoryId& repository,
                                 std::string_view key);

Bytes encode_point(const PointRecord& record, const RepositoryId& repository,
                   const crypto::SigningKeyPair& signer);
/// Nothing when the session was fenced. Checks the signature and every bound.
Result<std::optional<PointRecord>> decode_end(ByteSpan object, const RepositoryId& repository,
                                              const crypto::PublicKey& signer,
                                              std::string_view key);
Bytes fenced_end();
/// What a reader session puts as its `end`.
Bytes closed_end();

}  // namespace reclo::repo
