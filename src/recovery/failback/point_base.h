// A recovery point in a repository as a failback wants it. One thread at a time; what it was made
// from must outlive it.
#pragma once

#include "recovery/failback/failback.h"
#include "repo/repository.h"

namespace reclo::recovery {

class PointBase final : public FailbackBase {
 public:
  /// `box`: the unlocked repository.
  PointBase(const repo::Repository& repository, const MachineId& machine, repo::PointRecord point,
            crypto::SecretKey map_key, crypto::BoxKeyPair box);

  Result<image::RestoreReport> restore(uint32_t disk, disk::BlockSink& sink,
                                       const std::string& journal_path, ProgressSink& progress,
                                       const CancelToken& cancel) override;

 private:
  const repo::PointRecord point_;
  repo::SlotReader slots_;
  repo::MapReader maps_;
};

}  // namespace reclo::recovery
