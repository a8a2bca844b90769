// A server that comes home from EC2: rounds of snapshots of its volumes. One thread at a time.
//
// Each round: CreateSnapshot (found again by its tags: it takes no client token) ─▶ its id noted ─▶
// completed ─▶ ListChangedBlocks since what the target holds ─▶ written, flushed ─▶ noted ─▶ the
// older snapshot of ours deleted. The failover's own snapshot belongs to the standby and stays.
#pragma once

#include "cloud/ebs_client.h"
#include "cloud/ec2_client.h"
#include "recovery/failback/failback.h"

namespace reclo::recovery {

class Ec2FailbackSource final : public FailbackSource {
 public:
  Ec2FailbackSource(cloud::EbsClient& ebs, cloud::Ec2Client& ec2) : ebs_(ebs), ec2_(ec2) {}

  Result<bool> needs_base(const FailbackDisk& disk) override { return !disk.everything; }
  Result<FailbackRound> bring_home(const RoundJob& job, ProgressSink& progress,
                                   const CancelToken& cancel) override;
  Status stop(const FailbackRecord& record, ProgressSink& progress,
              const CancelToken& cancel) override;
  Status clean(FailbackRecord& record, bool all, const std::function<Status()>& save,
               const CancelToken& cancel) override;

 private:
  Status take_snapshot(const RoundJob& job, ProgressSink& progress, const CancelToken& cancel);
  Result<cloud::SnapshotId> find_or_create(const RoundJob& job, const CancelToken& cancel);
  Result<FailbackRound> write_changes(const RoundJob& job, ProgressSink& progress,
                                      const CancelToken& cancel);

  cloud::EbsClient& ebs_;
  cloud::Ec2Client& ec2_;
};

/// Fills in where the instance runs from: its volumes, and the snapshots that it was started from,
/// by its image. `snapshots`: by disk, instead of the image's. Errors: kNotFound for an instance or
/// image that is gone, kInvalidArgument when there are fewer volumes than disks.
Status find_ec2_disks(cloud::Ec2Client& ec2, const cloud::Instance& instance,
                      const std::map<uint32_t, cloud::SnapshotId>& snapshots,
                      FailbackRecord& record, const CancelToken& cancel);

}  // namespace reclo::recovery
