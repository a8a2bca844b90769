#include "image/point_diff.h"

#include <algorithm>

#include "base/limits.h"

namespace reclo::image {
namespace {

// Changed pages of two leaves: pages whose content is not the same page of the same chunk.
std::vector<bool> changed_pages(const repo::Leaf* before, const repo::Leaf* after) {
  struct Source {
    ChunkId chunk;
    uint32_t page = 0;
    bool operator==(const Source&) const = default;
  };
  const auto sources = [](const repo::Leaf* leaf) {
    std::vector<Source> out(kPagesPerSegment);
    if (leaf == nullptr) return out;
    for (const repo::Extent& extent : leaf->extents)
      for (uint32_t i = 0; i < extent.pages; ++i)
        out[extent.first_page + i] = {leaf->chunks[extent.chunk].id, extent.chunk_page + i};
    return out;
  };
  const auto old_sources = sources(before);
  const auto new_sources = sources(after);
  std::vector<bool> changed(kPagesPerSegment);
  for (size_t i = 0; i < kPagesPerSegment; ++i) changed[i] = old_sources[i] != new_sources[i];
  return changed;
}

using Ranges = std::vector<disk::Range>;

void append_pages(Ranges& ranges, uint64_t segment_index, const std::vector<bool>& pages,
                  uint64_t disk_size) {
  for (size_t i = 0; i < pages.size(); ++i) {
    if (!pages[i]) continue;
    const uint64_t at = segment_index * kSegmentSizeBytes + i * kPageSizeBytes;
    if (at >= disk_size) break;
    const uint64_t size = std::min(kPageSizeBytes, disk_size - at);
    if (!ranges.empty() && ranges.back().end_bytes() == at) {
      ranges.back().size_bytes += size;
    } else {
      ranges.push_back({at, size});
    }
  }
}

}  // namespace

Result<std::vector<disk::Range>> changed_ranges(repo::MapReader& maps,
                                                const repo::DiskRecord* before,
                                                const repo::DiskRecord* after,
                                                const CancelToken& cancel) {
  Ranges ranges;
  const uint64_t size = std::max(before != nullptr ? before->size_bytes : 0,
                                 after != nullptr ? after->size_bytes : 0);
  const auto load =
      [&](const std::optional<repo::NodeRef>& ref) -> Result<std::shared_ptr<const repo::Leaf>> {
    if (!ref) return std::shared_ptr<const repo::Leaf>();
    return maps.leaf(*ref, cancel);
  };
  RECLO_TRY(maps.diff(
      before != nullptr ? repo::MapRoot::of(*before) : repo::MapRoot{repo::map_height(size), {}},
      after != nullptr ? repo::MapRoot::of(*after) : repo::MapRoot{repo::map_height(size), {}},
      [&](uint64_t segment, const auto& old_ref, const auto& new_ref) -> Status {
        RECLO_ASSIGN_OR_RETURN(const auto old_leaf, load(old_ref));
        RECLO_ASSIGN_OR_RETURN(const auto new_leaf, load(new_ref));
        append_pages(ranges, segment, changed_pages(old_leaf.get(), new_leaf.get()), size);
        return {};
      },
      cancel));
  return ranges;
}

}  // namespace reclo::image
