#include "recovery/failback/point_base.h"

#include <fmt/format.h>

namespace reclo::recovery {

PointBase::PointBase(const repo::Repository& repository, const MachineId& machine,
                     repo::PointRecord point, crypto::SecretKey map_key, crypto::BoxKeyPair box)
    : point_(std::move(point)),
      slots_(repository.store(), repository.id(), machine, std::move(map_key), std::move(box)),
      maps_(slots_) {}

Result<image::RestoreReport> PointBase::restore(uint32_t disk, disk::BlockSink& sink,
                                                const std::string& journal_path,
                                                ProgressSink& progress, const CancelToken& cancel) {
  if (disk >= point_.disks.size())
    return Error(Code::kInternal, fmt::format("the recovery point has no disk {}", disk));
  image::RestoreOptions options;
  // Whatever of the old disk survived need not be fetched.
  options.update = !sink.starts_zeroed();
  options.journal_path = journal_path;
  return image::restore_disk(maps_, {point_.id, disk, point_.disks[disk]}, sink, options, progress,
                             cancel);
}

}  // namespace reclo::recovery
