#include "disk/range_collector.h"

#include <utility>

#include "base/check.h"

namespace reclo::disk {

void RangeCollector::add(Range range) {
  RECLO_CHECK(range.offset_bytes >= pending_.end_bytes());
  if (range.offset_bytes == pending_.end_bytes() && pending_.size_bytes > 0) {
    pending_.size_bytes += range.size_bytes;
    return;
  }
  flush_pending();
  pending_ = range;
}

std::vector<Range> RangeCollector::take() {
  flush_pending();
  pending_ = {};
  shortest_kept_bytes_ = kPageSizeBytes;
  return std::exchange(ranges_, {});
}

void RangeCollector::flush_pending() {
  const uint64_t start = round_up(pending_.offset_bytes, kPageSizeBytes);
  const uint64_t end = pending_.end_bytes() / kPageSizeBytes * kPageSizeBytes;
  if (end <= start || end - start < shortest_kept_bytes_) return;
  ranges_.push_back({start, end - start});
  if (ranges_.size() > count_max_) drop_short_ones();
}

void RangeCollector::drop_short_ones() {
  while (ranges_.size() > count_max_ / 2) {
    shortest_kept_bytes_ *= 2;
    std::erase_if(ranges_,
                  [&](const Range& range) { return range.size_bytes < shortest_kept_bytes_; });
  }
}

}  // namespace reclo::disk
