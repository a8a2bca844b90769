// A recovery point in a repository as a standby wants it. Safe from any thread; what it was made
// from must outlive it.
#pragma once

#include <memory>
#include <vector>

#include "image/block_image.h"
#include "recovery/ec2/standby.h"
#include "repo/repository.h"

namespace reclo::recovery {

class PointSource final : public StandbySource {
 public:
  /// `box`: the unlocked repository.
  PointSource(const repo::Repository& repository, const repo::MachineRecord& machine,
              repo::Point point, crypto::SecretKey map_key, crypto::BoxKeyPair box);

  PointId point() const override { return point_.record.id; }
  WallTime point_time() const override { return point_.record.taken; }
  std::vector<uint64_t> disk_sizes_bytes() const override;
  Status read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out,
              const CancelToken& cancel) override;
  Result<std::vector<disk::Range>> data(uint32_t disk, const CancelToken& cancel) override;
  Result<bool> knows(const PointId& earlier, const CancelToken& cancel) override;
  Result<std::vector<disk::Range>> changed_since(const PointId& earlier, uint32_t disk,
                                                 const CancelToken& cancel) override;

 private:
  const repo::Repository& repository_;
  const repo::MachineRecord machine_;
  const repo::Point point_;
  repo::SlotReader slots_;
  repo::MapReader maps_;
  std::vector<std::unique_ptr<image::BlockImage>> images_;
};

}  // namespace reclo::recovery
