#include "recovery/ec2/prepared_source.h"

#include "recovery/guest/read_log.h"

namespace reclo::recovery {

Status PreparedSource::read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out,
                            const CancelToken& cancel) {
  RECLO_TRY(point_.read(disk, offset_bytes, out, cancel));
  return overlay_->read(disk, offset_bytes, out);
}

Result<std::vector<disk::Range>> PreparedSource::data(uint32_t disk, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(auto ranges, point_.data(disk, cancel));
  for (const disk::Range& range : overlay_->ranges(disk)) ranges.push_back(range);
  return merge_ranges(std::move(ranges), point_.disk_sizes_bytes().at(disk));
}

}  // namespace reclo::recovery
