// Checks a whole repository: records, chain, maps and packs; with `read_data` every byte that a
// recovery point refers to.
//
// Damage is never an error of the check itself: it goes on, and says for each damaged object which
// addresses of which points it costs. Every object is read at most once, however many points refer
// to it (finding the addresses behind damage reads the maps again). Memory is bounded: 4 bytes for
// each stored chunk and node, and fixed batches. Thread rule: one caller; works on its own threads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "repo/repository.h"

namespace reclo::repo {

struct VerifyOptions {
  /// Fetches and checks every chunk that any point refers to, and what each pack says about itself.
  /// Needs `box`.
  bool read_data = false;
  /// The repository's unlocked key: opens every server's maps, and sees changes of reclo.json and
  /// of the key slots.
  const crypto::BoxKeyPair* box = nullptr;
  /// Without `box`: a server's own keys, which open the maps of this server.
  const MachineKeys* machine_keys = nullptr;
  size_t threads = 0;  // 0: one for each CPU
  size_t problems_max = 1000;
  size_t ranges_per_problem_max = 1000;
};

/// Addresses that cannot be restored; the whole point when `disk_index` is nothing.
struct AffectedRange {
  std::string server;
  PointId point;
  std::optional<uint32_t> disk_index;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

struct Problem {
  std::string object;  // the key of the damaged, missing or exchanged object
  std::string what;
  std::vector<AffectedRange> affected;
  bool affected_cut = false;  // there are more than fit
};

struct VerifyReport {
  uint64_t points_checked = 0;
  uint64_t nodes_checked = 0;
  uint64_t chunks_checked = 0;  // present and long enough; with read_data also their content
  uint64_t packs_present = 0;
  uint64_t packs_unreferenced = 0;  // of interrupted backups, or removed points
  uint64_t data_bytes_read = 0;
  uint64_t open_sessions = 0;  // begun, and neither committed nor given up
  /// Servers whose maps were not checked for want of a key.
  std::vector<std::string> servers_not_checked;
  std::vector<Problem> problems;
  bool problems_cut = false;  // there are more than fit
};

/// Errors: kInvalidArgument for read_data without `box`, kCancelled, and what the store answers
/// when it cannot be reached; damage is in the report.
Result<VerifyReport> verify_repository(const Repository& repository, const VerifyOptions& options,
                                       ProgressSink& progress, const CancelToken& cancel);

}  // namespace reclo::repo
