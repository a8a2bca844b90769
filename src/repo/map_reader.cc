#include "repo/map_reader.h"

#include <algorithm>

namespace reclo::repo {
namespace {

const InnerNode::Child* find_child(const InnerNode& node, uint64_t index) {
  const auto found =
      std::lower_bound(node.children.begin(), node.children.end(), index,
                       [](const InnerNode::Child& child, uint64_t i) { return child.index < i; });
  return found != node.children.end() && found->index == index ? &*found : nullptr;
}

}  // namespace

MapReader::MapReader(SlotReader& reader, size_t cache_nodes)
    : reader_(reader), cache_nodes_(std::max<size_t>(cache_nodes, 8)) {}

// Nodes are cached by identity: equal nodes at two addresses are the same content.
std::optional<MapReader::Cached> MapReader::lookup(const NodeRef& ref) {
  std::lock_guard lock(mutex_);
  const auto found = index_.find(ref.id);
  if (found == index_.end()) return std::nullopt;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->second;
}

void MapReader::remember(const NodeRef& ref, Cached node) {
  std::lock_guard lock(mutex_);
  if (index_.contains(ref.id)) return;
  recent_.emplace_front(ref.id, std::move(node));
  index_[ref.id] = recent_.begin();
  if (recent_.size() > cache_nodes_) {
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
}

Result<std::shared_ptr<const Leaf>> MapReader::leaf(const NodeRef& ref, const CancelToken& cancel) {
  if (const auto cached = lookup(ref); cached && cached->leaf) return cached->leaf;
  RECLO_ASSIGN_OR_RETURN(Leaf read, reader_.read_leaf(ref, cancel));
  auto shared = std::make_shared<const Leaf>(std::move(read));
  remember(ref, {shared, nullptr});
  return shared;
}

Result<std::shared_ptr<const InnerNode>> MapReader::inner(const NodeRef& ref, uint8_t level,
                                                          const CancelToken& cancel) {
  if (const auto cached = lookup(ref); cached && cached->inner && cached->inner->level == level)
    return cached->inner;
  RECLO_ASSIGN_OR_RETURN(InnerNode read, reader_.read_inner_node(ref, level, cancel));
  auto shared = std::make_shared<const InnerNode>(std::move(read));
  remember(ref, {nullptr, shared});
  return shared;
}

Result<std::optional<NodeRef>> MapReader::find_leaf_ref(const MapRoot& map, uint64_t segment_index,
                                                        const CancelToken& cancel) {
  std::optional<NodeRef> at = map.root;
  for (uint8_t level = map.height; level > 0 && at; --level) {
    RECLO_ASSIGN_OR_RETURN(const auto node, inner(*at, level, cancel));
    const uint64_t per_child = segments_per_child(level);
    const InnerNode::Child* child = find_child(*node, segment_index / per_child);
    segment_index %= per_child;
    at = child != nullptr ? std::optional(child->node) : std::nullopt;
  }
  return segment_index == 0 ? at : std::optional<NodeRef>();
}

Result<std::shared_ptr<const Leaf>> MapReader::find_leaf(const MapRoot& map, uint64_t segment_index,
                                                         const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const auto ref, find_leaf_ref(map, segment_index, cancel));
  if (!ref) return std::shared_ptr<const Leaf>();
  return leaf(*ref, cancel);
}

Status MapReader::walk(const NodeRef& ref, uint8_t level, uint64_t base_segment,
                       uint64_t first_segment, uint64_t end_segment, const LeafVisitor& visit,
                       const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  if (level == 0) return visit(base_segment, ref);
  RECLO_ASSIGN_OR_RETURN(const auto node, inner(ref, level, cancel));
  const uint64_t per_child = segments_per_child(level);
  for (const InnerNode::Child& child : node->children) {
    const uint64_t child_base = base_segment + child.index * per_child;
    if (child_base >= end_segment) break;
    if (child_base + per_child <= first_segment) continue;
    RECLO_TRY(walk(child.node, static_cast<uint8_t>(level - 1), child_base, first_segment,
                   end_segment, visit, cancel));
  }
  return {};
}

Status MapReader::for_each_leaf(const MapRoot& map, uint64_t first_segment, uint64_t end_segment,
                                const LeafVisitor& visit, const CancelToken& cancel) {
  if (!map.root || first_segment >= end_segment) return {};
  if (map.height == 0 && first_segment > 0) return {};  // the root is segment 0's leaf
  return walk(*map.root, map.height, 0, first_segment, end_segment, visit, cancel);
}

Status MapReader::diff_nodes(const std::optional<NodeRef>& before,
                             const std::optional<NodeRef>& after, uint8_t level,
                             uint64_t base_segment, const DiffVisitor& visit,
                             const CancelToken& cancel) {
  if (!before && !after) return {};
  if (before && after && before->id == after->id) return {};
  RECLO_TRY(cancel.check());
  if (level == 0) return visit(base_segment, before, after);
  std::shared_ptr<const InnerNode> before_node;
  std::shared_ptr<const InnerNode> after_node;
  if (before) {
    RECLO_ASSIGN_OR_RETURN(before_node, inner(*before, level, cancel));
  }
  if (after) {
    RECLO_ASSIGN_OR_RETURN(after_node, inner(*after, level, cancel));
  }
  const uint64_t per_child = segments_per_child(level);
  for (uint64_t index = 0; index < kMapFanOut; ++index) {
    const auto* b = before_node ? find_child(*before_node, index) : nullptr;
    const auto* a = after_node ? find_child(*after_node, index) : nullptr;
    RECLO_TRY(diff_nodes(b != nullptr ? std::optional(b->node) : std::nullopt,
                         a != nullptr ? std::optional(a->node) : std::nullopt,
                         static_cast<uint8_t>(level - 1), base_segment + index * per_child, visit,
                         cancel));
  }
  return {};
}

Status MapReader::diff(const MapRoot& before, const MapRoot& after, const DiffVisitor& visit,
                       const CancelToken& cancel) {
  if (before.height == after.height)
    return diff_nodes(before.root, after.root, after.height, 0, visit, cancel);
  // The disk grew or shrank past a power of the fan-out: the lower map is the first subtree of the
  // higher one, whose other subtrees differ as a whole.
  const bool grew = after.height > before.height;
  const MapRoot& high = grew ? after : before;
  const MapRoot& low = grew ? before : after;
  RECLO_ASSIGN_OR_RETURN(const auto first, raise(high, low.height, cancel));
  RECLO_TRY(grew ? diff_nodes(low.root, first, low.height, 0, visit, cancel)
                 : diff_nodes(first, low.root, low.height, 0, visit, cancel));
  const uint64_t from = segments_per_child(static_cast<uint8_t>(low.height + 1));
  return for_each_leaf(
      high, from, UINT64_MAX,
      [&](uint64_t segment, const NodeRef& ref) {
        return grew ? visit(segment, std::nullopt, ref) : visit(segment, ref, std::nullopt);
      },
      cancel);
}

// The leftmost subtree of `map` at `level`.
Result<std::optional<NodeRef>> MapReader::raise(const MapRoot& map, uint8_t level,
                                                const CancelToken& cancel) {
  std::optional<NodeRef> at = map.root;
  for (uint8_t here = map.height; here > level && at; --here) {
    RECLO_ASSIGN_OR_RETURN(const auto node, inner(*at, here, cancel));
    const InnerNode::Child* child = find_child(*node, 0);
    at = child != nullptr ? std::optional(child->node) : std::nullopt;
  }
  return at;
}

}  // namespace reclo::repo
