#include "repo/map_builder.h"

#include "base/limits.h"

namespace reclo::repo {

MapBuilder::MapBuilder(uint64_t disk_size_bytes, MapRoot parent, MapReader* parent_reader,
                       NodeSink sink)
    : segment_count_(divide_up(disk_size_bytes, kSegmentSizeBytes)),
      height_(map_height(disk_size_bytes)),
      parent_(parent),
      parent_reader_(parent_reader),
      sink_(std::move(sink)),
      open_(height_ + 1u) {
  RECLO_CHECK(!parent_.root || parent_reader_ != nullptr);
}

Status MapBuilder::open_node(uint8_t level, uint64_t position, const std::optional<NodeRef>& from,
                             const CancelToken& cancel) {
  OpenNode node;
  node.position = position;
  node.children.resize(kMapFanOut);
  if (from) {
    RECLO_ASSIGN_OR_RETURN(const auto stored, parent_reader_->inner(*from, level, cancel));
    for (const InnerNode::Child& child : stored->children) node.children[child.index] = child.node;
  }
  drop_segments_past_end(level, node);
  open_[level] = std::move(node);
  return {};
}

// A disk that shrank keeps no leaves past its end.
void MapBuilder::drop_segments_past_end(uint8_t level, OpenNode& node) const {
  const uint64_t per_child = segments_per_child(level);
  for (uint64_t i = 0; i < kMapFanOut; ++i) {
    if (!node.children[i]) continue;
    if ((node.position * kMapFanOut + i) * per_child < segment_count_) continue;
    node.children[i].reset();
    node.changed = true;
  }
}

// Brings the parent's root to our height: a higher one by descending to its first subtree, a lower
// one by opening new nodes above it with the old root as their first child.
Status MapBuilder::open_parent_root(const CancelToken& cancel) {
  if (opened_) return {};
  opened_ = true;
  std::optional<NodeRef> root = parent_.root;
  for (uint8_t level = parent_.height; level > height_ && root; --level) {
    RECLO_ASSIGN_OR_RETURN(const auto node, parent_reader_->inner(*root, level, cancel));
    const bool has_first = !node->children.empty() && node->children.front().index == 0;
    root = has_first ? std::optional(node->children.front().node) : std::nullopt;
  }
  if (height_ == 0 || !root || parent_.height >= height_) {
    root_ = root;
    if (height_ > 0) RECLO_TRY(open_node(height_, 0, root_, cancel));
    return {};
  }
  for (uint8_t level = height_; level > parent_.height; --level) {
    RECLO_TRY(open_node(level, 0, std::nullopt, cancel));
    open_[level]->changed = true;
  }
  open_[parent_.height + 1]->children[0] = root;
  return {};
}

Status MapBuilder::open_path(uint64_t segment_index, const CancelToken& cancel) {
  // Close what the new segment does not belong to, lowest first.
  for (uint8_t level = 1; level < height_; ++level) {
    const uint64_t position = segment_index / (segments_per_child(level) * kMapFanOut);
    if (open_[level] && open_[level]->position != position) RECLO_TRY(close_node(level));
  }
  for (uint8_t level = static_cast<uint8_t>(height_ - 1); level >= 1 && height_ > 0; --level) {
    const uint64_t position = segment_index / (segments_per_child(level) * kMapFanOut);
    if (open_[level]) continue;
    const auto from = open_[level + 1]->children[position % kMapFanOut];
    RECLO_TRY(open_node(level, position, from, cancel));
  }
  return {};
}

Status MapBuilder::close_node(uint8_t level) {
  OpenNode node = std::move(*open_[level]);
  open_[level].reset();
  if (!node.changed) return {};
  InnerNode out;
  out.level = level;
  for (size_t i = 0; i < node.children.size(); ++i)
    if (node.children[i]) out.children.push_back({static_cast<uint8_t>(i), *node.children[i]});
  std::optional<NodeRef> ref;
  if (!out.children.empty()) {
    RECLO_ASSIGN_OR_RETURN(ref, sink_(encode_inner_node(out)));
  }
  if (level == height_) {
    root_ = ref;
    return {};
  }
  OpenNode& above = *open_[level + 1];
  above.children[node.position % kMapFanOut] = ref;
  above.changed = true;
  return {};
}

Status MapBuilder::set(uint64_t segment_index, const Leaf& leaf, const CancelToken& cancel) {
  RECLO_CHECK(segment_index >= next_segment_ && segment_index < segment_count_);
  next_segment_ = segment_index + 1;
  RECLO_TRY(open_parent_root(cancel));
  std::optional<NodeRef> ref;
  if (!leaf.extents.empty()) {
    RECLO_ASSIGN_OR_RETURN(ref, sink_(encode_leaf(leaf)));
  }
  if (height_ == 0) {
    root_ = ref;
    return {};
  }
  RECLO_TRY(open_path(segment_index, cancel));
  OpenNode& node = *open_[1];
  auto& child = node.children[segment_index % kMapFanOut];
  if (child != ref) {
    child = ref;
    node.changed = true;
  }
  return {};
}

Result<MapRoot> MapBuilder::finish(const CancelToken& cancel) && {
  RECLO_TRY(open_parent_root(cancel));
  // The path to the last segment is opened even when nothing changed there, so that a shrunken
  // disk's old end is cut off and cannot come back when the disk grows again.
  if (height_ > 0) RECLO_TRY(open_path(segment_count_ - 1, cancel));
  for (uint8_t level = 1; level <= height_; ++level)
    if (open_[level]) RECLO_TRY(close_node(level));
  return MapRoot{height_, root_};
}

}  // namespace reclo::repo
