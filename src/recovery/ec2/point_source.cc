#include "recovery/ec2/point_source.h"

#include "image/point_diff.h"

namespace reclo::recovery {
namespace {

constexpr size_t kRunsAtOnce = 4096;

}  // namespace

PointSource::PointSource(const repo::Repository& repository, const repo::MachineRecord& machine,
                         repo::Point point, crypto::SecretKey map_key, crypto::BoxKeyPair box)
    : repository_(repository),
      machine_(machine),
      point_(std::move(point)),
      slots_(repository.store(), repository.id(), machine.id, std::move(map_key), std::move(box)),
      maps_(slots_) {
  for (const repo::DiskRecord& disk : point_.record.disks)
    images_.push_back(std::make_unique<image::BlockImage>(maps_, disk, image::BlockImageOptions()));
}

std::vector<uint64_t> PointSource::disk_sizes_bytes() const {
  std::vector<uint64_t> sizes;
  for (const repo::DiskRecord& disk : point_.record.disks) sizes.push_back(disk.size_bytes);
  return sizes;
}

Status PointSource::read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out,
                         const CancelToken& cancel) {
  return images_.at(disk)->read_at(offset_bytes, out, cancel);
}

Result<std::vector<disk::Range>> PointSource::data(uint32_t disk, const CancelToken& cancel) {
  std::vector<disk::Range> out;
  image::BlockImage& image = *images_.at(disk);
  for (uint64_t at = 0; at < image.size_bytes();) {
    RECLO_ASSIGN_OR_RETURN(const std::vector<image::Run> runs,
                           image.runs({at, image.size_bytes() - at}, kRunsAtOnce, cancel));
    RECLO_CHECK(!runs.empty());
    for (const image::Run& run : runs)
      if (run.is_data) out.push_back(run.range);
    at = runs.back().range.end_bytes();
  }
  return out;
}

Result<bool> PointSource::knows(const PointId& earlier, const CancelToken& cancel) {
  const auto point = repository_.point(machine_, earlier, cancel);
  if (!point.ok() && point.error().code() != Code::kNotFound) return point.error();
  return point.ok() && point->record.disks.size() >= point_.record.disks.size();
}

Result<std::vector<disk::Range>> PointSource::changed_since(const PointId& earlier, uint32_t disk,
                                                            const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const repo::Point before, repository_.point(machine_, earlier, cancel));
  if (disk >= before.record.disks.size())
    return Error(Code::kInternal, "the earlier recovery point has no such disk");
  return image::changed_ranges(maps_, &before.record.disks[disk], &point_.record.disks[disk],
                               cancel);
}

}  // namespace reclo::recovery
