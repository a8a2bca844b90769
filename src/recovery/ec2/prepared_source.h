// A recovery point with what prepares it for EC2 laid over. Safe from any thread.
#pragma once

#include <memory>

#include "recovery/ec2/standby.h"
#include "recovery/guest/prepared_overlay.h"

namespace reclo::recovery {

/// `point` must outlive it. What changed since an earlier point, and where there is data, are the
/// point's own answers: StandbyKeeper adds overlay_ranges(), and those of the standby before.
class PreparedSource final : public StandbySource {
 public:
  PreparedSource(StandbySource& point, std::shared_ptr<const PreparedOverlay> overlay)
      : point_(point), overlay_(std::move(overlay)) {}

  PointId point() const override { return point_.point(); }
  WallTime point_time() const override { return point_.point_time(); }
  std::vector<uint64_t> disk_sizes_bytes() const override { return point_.disk_sizes_bytes(); }
  Status read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out,
              const CancelToken& cancel) override;
  Result<std::vector<disk::Range>> data(uint32_t disk, const CancelToken& cancel) override;
  Result<bool> knows(const PointId& earlier, const CancelToken& cancel) override {
    return point_.knows(earlier, cancel);
  }
  Result<std::vector<disk::Range>> changed_since(const PointId& earlier, uint32_t disk,
                                                 const CancelToken& cancel) override {
    return point_.changed_since(earlier, disk, cancel);
  }
  std::string overlay_id() const override { return overlay_->record().id; }
  std::vector<disk::Range> overlay_ranges(uint32_t disk) const override {
    return overlay_->ranges(disk);
  }

 private:
  StandbySource& point_;
  std::shared_ptr<const PreparedOverlay> overlay_;
};

}  // namespace reclo::recovery
