// Puts a disk's blocks into an EBS snapshot, in parallel, and goes on where it was interrupted.
//
//   spans ─► read 512 KiB ─► zeros? ─► PutSnapshotBlock ─► its digest into the log ─►
//   CompleteSnapshot
//
// The log is a sparse file with 32 bytes for each block of the volume: the SHA-256 that was put, or
// zeros. A digest is noted after its block was acknowledged, so a crash puts a few blocks twice,
// which is harmless, and forgets none. At the end the digests, in order, give the LINEAR checksum,
// which the service compares: a log that does not fit the snapshot is found. Memory: one block for
// each thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "cloud/ebs_client.h"
#include "os/fd.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {

struct SnapshotJob {
  cloud::SnapshotId snapshot;  // started, not completed
  std::vector<BlockSpan> spans;
  uint64_t disk_size_bytes = 0;  // what lies behind it in the last block is zeros
  /// Only a snapshot without a parent may leave out zeros: in a child the parent's old data would
  /// show through.
  bool leave_out_zeros = false;
  std::string log_path;
  size_t threads = 32;
};

struct SnapshotReport {
  uint32_t blocks_put = 0;      // by all attempts
  uint32_t blocks_resumed = 0;  // of these, by earlier ones
};

using ReadDisk =
    std::function<Status(uint64_t offset_bytes, MutableByteSpan out, const CancelToken& cancel)>;

/// Puts all blocks and completes the snapshot, which is "pending" for a while after. After an error
/// the same call goes on. `read` is called from several threads.
Result<SnapshotReport> write_snapshot(cloud::EbsClient& ebs, const SnapshotJob& job,
                                      const ReadDisk& read, ProgressSink& progress,
                                      const CancelToken& cancel);

}  // namespace reclo::recovery
