// Makes a new map from a parent map and the leaves that changed: copy-on-write, bottom-up, in one
// ascending pass, with one open node per level in memory.
//
// Invariants:
//  1. set() is called with ascending segment indexes.
//  2. A subtree without changes is taken over by reference and never rewritten, nor read below the
//     path to a changed one.
//  3. A node is written after its children: what is stored refers only to what is stored.
// Thread rule: one thread at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "repo/map_reader.h"

namespace reclo::repo {

class MapBuilder {
 public:
  /// Stores an encoded node and says where.
  using NodeSink = std::function<Result<NodeRef>(ByteSpan node)>;

  /// `parent_reader` may be null when `parent.root` is empty. The new map has the height that
  /// `disk_size_bytes` needs; a parent of another height is adapted (its disk grew or shrank).
  MapBuilder(uint64_t disk_size_bytes, MapRoot parent, MapReader* parent_reader, NodeSink sink);

  /// Replaces a segment's leaf. An empty leaf makes the segment a hole.
  Status set(uint64_t segment_index, const Leaf& leaf, const CancelToken& cancel);
  /// Ends the map. The builder is used up.
  Result<MapRoot> finish(const CancelToken& cancel) &&;

 private:
  struct OpenNode {
    uint64_t position = 0;  // which node of its level, counted from the disk's start
    std::vector<std::optional<NodeRef>> children;
    bool changed = false;
  };
  Status open_parent_root(const CancelToken& cancel);
  Status open_path(uint64_t segment_index, const CancelToken& cancel);
  Status open_node(uint8_t level, uint64_t position, const std::optional<NodeRef>& from,
                   const CancelToken& cancel);
  /// Writes the open node of `level` (if it changed) and hooks it into the level above.
  Status close_node(uint8_t level);
  void drop_segments_past_end(uint8_t level, OpenNode& node) const;

  const uint64_t segment_count_;
  const uint8_t height_;
  MapRoot parent_;
  MapReader* parent_reader_;
  NodeSink sink_;
  bool opened_ = false;
  uint64_t next_segment_ = 0;
  std::optional<NodeRef> root_;                // when no node is open, or height is 0
  std::vector<std::optional<OpenNode>> open_;  // by level; [0] unused
};

}  // namespace reclo::repo
