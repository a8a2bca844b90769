// Blocks of an EBS snapshot onto a disk at home: the changes of a round, and the look afterwards.
//
//   listing (pages) ─▶ bounded channel ─▶ threads: GetSnapshotBlock ─▶ write, zeros as holes
//
// Memory: a block for each thread and the channel; 36 bytes for each block that is remembered for
// the verification, up to kRememberedMax. Free functions; each call uses threads of its own.
#pragma once

#include <optional>
#include <vector>

#include "base/progress.h"
#include "cloud/ebs_client.h"
#include "disk/block_sink.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {

struct DeltaJob {
  std::optional<cloud::SnapshotId> from;  // nothing: all blocks of `to`, and zeros elsewhere
  cloud::SnapshotId to;
  std::vector<BlockSpan> extra_blocks;  // written besides what differs between the two
  uint64_t disk_size_bytes = 0;
  size_t threads = 32;
  bool remember = false;  // the digests, for verify_blocks()
};

struct WrittenBlock {
  uint32_t index = 0;
  net::Sha256 sha256{};  // of the block's part inside the disk
};
inline constexpr size_t kRememberedMax = 1'000'000;

struct DeltaReport {
  uint64_t blocks = 0;
  uint64_t bytes = 0;                 // fetched
  std::vector<WrittenBlock> written;  // when it was asked to remember them
};

/// Writes and flushes. After an error the same call again is right: it writes the same bytes.
/// Errors: kInvalidArgument or kNotFound from EBS when the lineage is lost; the sink's.
Result<DeltaReport> write_delta(cloud::EbsClient& ebs, const DeltaJob& job, disk::BlockSink& sink,
                                ProgressSink& progress, const CancelToken& cancel);

struct VerifyJob {
  cloud::SnapshotId snapshot;
  uint64_t disk_size_bytes = 0;
  size_t sample_blocks = 64;  // at random, of those with data; a quarter more of the others
};
/// Compares the target with what was written, and a random sample of the snapshot with the target.
/// Returns how many blocks were compared. Errors: kCorruption, naming the first that differs.
Result<uint64_t> verify_blocks(cloud::EbsClient& ebs, const VerifyJob& job,
                               const std::vector<WrittenBlock>& written, disk::BlockSink& sink,
                               const CancelToken& cancel);

}  // namespace reclo::recovery
