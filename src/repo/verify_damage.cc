// The second half of verify_maps.h: which addresses the damaged slots cost.
//
// Walks every map again and stays out of subtrees that are known to be whole.
#include <algorithm>

#include "base/limits.h"
#include "repo/verify_maps.h"

namespace reclo::repo {
namespace {

// Damage that did not fit into the list of damaged slots is met again here.
Result<bool> not_whole(const Error& error) {
  if (is_damage(error)) return false;
  return error;
}

}  // namespace

Status MapVerifier::locate(const std::vector<Point>& points, const CancelToken& cancel) {
  for (const Point& point : points) {
    for (uint32_t i = 0; i < point.record.disks.size(); ++i) {
      const DiskRecord& disk = point.record.disks[i];
      if (!disk.map_root) continue;
      RECLO_ASSIGN_OR_RETURN(const bool whole, locate_below({&point.record, i}, *disk.map_root,
                                                            disk.map_height, 0, cancel));
      static_cast<void>(whole);
    }
  }
  return {};
}

void MapVerifier::affect(const Place& place, size_t problem, uint64_t offset_bytes,
                         uint64_t size_bytes) {
  const uint64_t disk_size = place.point->disks[place.disk_index].size_bytes;
  if (offset_bytes >= disk_size) return;
  problems_.affect(problem, {place.point->server, place.point->id, place.disk_index, offset_bytes,
                             std::min(size_bytes, disk_size - offset_bytes)});
}

std::optional<bool> MapVerifier::known(const Place& place, const NodeRef& ref,
                                       uint64_t base_segment, uint64_t segments) {
  if (const auto found = damaged_slots_.find({ref.at.pack, ref.at.slot});
      found != damaged_slots_.end()) {
    affect(place, found->second, base_segment * kSegmentSizeBytes, segments * kSegmentSizeBytes);
    return false;
  }
  const PackState& pack = packs_[ref.at.pack];
  if (ref.at.slot < pack.clean.size() && pack.clean[ref.at.slot]) return true;
  return std::nullopt;
}

void MapVerifier::mark_clean(const NodeRef& ref) {
  PackState& pack = packs_[ref.at.pack];
  if (pack.clean.size() <= ref.at.slot) pack.clean.resize(ref.at.slot + size_t{1}, false);
  pack.clean[ref.at.slot] = true;
}

// Whether everything below is whole.
Result<bool> MapVerifier::locate_below(const Place& place, const NodeRef& ref, uint8_t level,
                                       uint64_t base_segment, const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  const uint64_t segments = segments_per_child(static_cast<uint8_t>(level + 1));
  if (const auto answer = known(place, ref, base_segment, segments)) return *answer;
  bool whole = true;
  if (level == 0) {
    const auto leaf = reader_.read_leaf(ref, cancel);
    if (!leaf.ok()) return not_whole(leaf.error());
    whole = locate_in_leaf(place, *leaf, base_segment);
  } else {
    const auto node = reader_.read_inner_node(ref, level, cancel);
    if (!node.ok()) return not_whole(node.error());
    if (level == 1) {
      RECLO_ASSIGN_OR_RETURN(whole, locate_in_leaves(place, *node, base_segment, cancel));
    } else {
      const uint64_t per_child = segments_per_child(level);
      for (const InnerNode::Child& child : node->children) {
        RECLO_ASSIGN_OR_RETURN(const bool child_whole,
                               locate_below(place, child.node, static_cast<uint8_t>(level - 1),
                                            base_segment + child.index * per_child, cancel));
        whole = whole && child_whole;
      }
    }
  }
  if (whole) mark_clean(ref);
  return whole;
}

Result<bool> MapVerifier::locate_in_leaves(const Place& place, const InnerNode& node,
                                           uint64_t base_segment, const CancelToken& cancel) {
  bool whole = true;
  std::vector<InnerNode::Child> unknown;
  for (const InnerNode::Child& child : node.children) {
    const auto answer = known(place, child.node, base_segment + child.index, 1);
    if (!answer) unknown.push_back(child);
    whole = whole && answer.value_or(true);
  }
  std::sort(unknown.begin(), unknown.end(),
            [](const InnerNode::Child& a, const InnerNode::Child& b) {
              return std::tie(a.node.at.pack, a.node.at.offset_bytes) <
                     std::tie(b.node.at.pack, b.node.at.offset_bytes);
            });
  for (size_t first = 0; first < unknown.size();) {
    std::vector<NodeRef> refs;
    while (first + refs.size() < unknown.size() &&
           unknown[first + refs.size()].node.at.pack == unknown[first].node.at.pack)
      refs.push_back(unknown[first + refs.size()].node);
    RECLO_TRY(reader_.read_leaves(
        refs,
        [&](size_t i, Result<Leaf> leaf) -> Status {
          if (!leaf.ok()) {
            RECLO_ASSIGN_OR_RETURN(whole, not_whole(leaf.error()));
          } else if (locate_in_leaf(place, *leaf, base_segment + unknown[first + i].index)) {
            mark_clean(refs[i]);
          } else {
            whole = false;
          }
          return {};
        },
        cancel));
    first += refs.size();
  }
  return whole;
}

bool MapVerifier::locate_in_leaf(const Place& place, const Leaf& leaf, uint64_t segment) {
  bool whole = true;
  for (const Extent& extent : leaf.extents) {
    const SlotAddress& at = leaf.chunks[extent.chunk].at;
    const auto found = damaged_slots_.find({at.pack, at.slot});
    if (found == damaged_slots_.end()) continue;
    whole = false;
    affect(place, found->second, segment * kSegmentSizeBytes + extent.first_page * kPageSizeBytes,
           extent.pages * kPageSizeBytes);
  }
  return whole;
}

}  // namespace reclo::repo
