// Writing a recovery point's disk to a block device or file, as fast as the target takes it.
//
//   for each segment, in order, several at once:
//     leaf → [update: what does the target hold already?] → ranged GETs → decode into the segment's
//     buffer → one write of the whole segment, holes left out
//
// Invariants:
//  1. After success every byte of the disk was written, or found to be right already.
//  2. A segment counts as finished in the journal only after a flush that followed its writes.
//  3. A damaged chunk costs its own addresses: they read as zeros and are reported.
// Memory: about 12 MiB for each thread, whatever the disk's size.
// Thread rule: free functions; each call uses threads of its own.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "disk/block_sink.h"
#include "disk/block_source.h"
#include "repo/map_reader.h"

namespace reclo::image {

struct RestoreOptions {
  /// Segments in work at once. 0: enough for the CPUs, or for a distant store's latency.
  size_t threads = 0;
  /// The target may hold much of the disk already: read it first, and fetch only what differs.
  bool update = false;
  /// Where to remember what is finished, so that an interrupted restore goes on; empty: nowhere.
  /// Removed at the end. It is used again only for the same point, disk and size.
  std::string journal_path{};
  std::chrono::milliseconds journal_interval{5000};
};

/// A part of the disk that could not be restored, and why.
struct DamagedRange {
  disk::Range range;
  Error error;  // names the object
};

struct RestoreReport {
  uint64_t size_bytes = 0;
  uint64_t written_bytes = 0;  // data and zeros that had to be written
  uint64_t fetched_bytes = 0;  // from the store, as stored
  uint64_t skipped_bytes = 0;  // the target held it already (holes of a new target included)
  uint64_t resumed_bytes = 0;  // finished by an earlier attempt
  double duration_s = 0;
  std::vector<DamagedRange> damaged;  // ascending; neighbours with the same cause merged
  uint64_t damaged_bytes = 0;         // all of them, also those past kDamagedRangesMax
};
inline constexpr size_t kDamagedRangesMax = 10'000;

/// What is restored: a disk of a point.
struct RestoreJob {
  PointId point;
  uint32_t disk_index = 0;
  repo::DiskRecord disk;
};

/// Writes the whole disk and flushes; the caller calls finish() on the sink. Damage does not make
/// it fail: look at `damaged`, or ask damage_status(). Errors: the sink's; the store's, when it
/// cannot be reached; kCancelled. After an error, and after damage, the journal stays: the same
/// call again goes on.
Result<RestoreReport> restore_disk(repo::MapReader& maps, const RestoreJob& job,
                                   disk::BlockSink& sink, const RestoreOptions& options,
                                   ProgressSink& progress, const CancelToken& cancel);

/// Success, or kCorruption that names the damaged ranges and objects.
Status damage_status(const RestoreReport& report);

}  // namespace reclo::image
