#include "backup/segment_plan.h"

#include <algorithm>

#include "base/limits.h"

namespace reclo::backup {
namespace {

// Widens to whole pages and merges what then touches.
std::vector<disk::Range> to_pages(const std::vector<disk::Range>& ranges) {
  std::vector<disk::Range> out;
  for (const disk::Range& range : ranges) {
    const uint64_t start = range.offset_bytes / kPageSizeBytes * kPageSizeBytes;
    const uint64_t end = round_up(range.end_bytes(), kPageSizeBytes);
    if (!out.empty() && start <= out.back().end_bytes()) {
      out.back().size_bytes = std::max(end, out.back().end_bytes()) - out.back().offset_bytes;
    } else {
      out.push_back({start, end - start});
    }
  }
  return out;
}

}  // namespace

std::vector<disk::Range> without(const std::vector<disk::Range>& ranges,
                                 const std::vector<disk::Range>& holes) {
  std::vector<disk::Range> out;
  for (const disk::Range& range : ranges) {
    uint64_t at = range.offset_bytes;
    auto hole = std::lower_bound(
        holes.begin(), holes.end(), at,
        [](const disk::Range& h, uint64_t offset) { return h.end_bytes() <= offset; });
    for (; hole != holes.end() && hole->offset_bytes < range.end_bytes(); ++hole) {
      if (hole->offset_bytes > at) out.push_back({at, hole->offset_bytes - at});
      at = std::max(at, hole->end_bytes());
    }
    if (at < range.end_bytes()) out.push_back({at, range.end_bytes() - at});
  }
  return out;
}

Result<SegmentPlan> SegmentPlan::make(disk::BlockSource& source, const CancelToken& cancel) {
  SegmentPlan plan;
  plan.disk_size_bytes_ = source.size_bytes();
  plan.segment_count_ = divide_up(source.size_bytes(), kSegmentSizeBytes);
  RECLO_ASSIGN_OR_RETURN(plan.allocation_, disk::find_allocation(source, cancel));
  return plan;
}

Result<std::vector<disk::Range>> SegmentPlan::read_ranges(uint64_t segment_index,
                                                          disk::BlockSource& source) const {
  const uint64_t start = segment_index * kSegmentSizeBytes;
  const uint64_t end = std::min(start + kSegmentSizeBytes, disk_size_bytes_);
  RECLO_ASSIGN_OR_RETURN(const auto data, source.data_ranges({start, end - start}));
  return to_pages(without(to_pages(data), allocation_.skippable));
}

}  // namespace reclo::backup
