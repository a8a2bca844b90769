#include "recovery/ec2/block_span.h"

#include <algorithm>

#include "base/units.h"
#include "cloud/ebs_client.h"

namespace reclo::recovery {

std::vector<BlockSpan> block_spans(const std::vector<disk::Range>& ranges) {
  std::vector<BlockSpan> spans;
  for (const disk::Range& range : ranges) {
    if (range.size_bytes == 0) continue;
    spans.push_back(
        {static_cast<uint32_t>(range.offset_bytes / cloud::kEbsBlockSizeBytes),
         static_cast<uint32_t>((range.end_bytes() - 1) / cloud::kEbsBlockSizeBytes) + 1});
  }
  std::sort(spans.begin(), spans.end(),
            [](const BlockSpan& a, const BlockSpan& b) { return a.first < b.first; });
  std::vector<BlockSpan> merged;
  for (const BlockSpan& span : spans) {
    if (!merged.empty() && span.first <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

uint64_t count_blocks(const std::vector<BlockSpan>& spans) {
  uint64_t count = 0;
  for (const BlockSpan& span : spans) count += span.end - span.first;
  return count;
}

uint64_t volume_size_gib(uint64_t disk_size_bytes) { return divide_up(disk_size_bytes, kGiB); }

}  // namespace reclo::recovery
