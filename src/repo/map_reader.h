// Walking a block map: look up a segment, visit leaves in address order, compare two maps.
//
// Keeps a bounded cache of decoded nodes. Thread rule: all methods are safe from any thread; the
// cache is shared.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "repo/record.h"
#include "repo/slot_reader.h"

namespace reclo::repo {

/// A map by its root: of one disk of one recovery point.
struct MapRoot {
  uint8_t height = 0;
  std::optional<NodeRef> root;
  static MapRoot of(const DiskRecord& disk) { return {disk.map_height, disk.map_root}; }
};

class MapReader {
 public:
  /// `reader` must outlive this. `cache_nodes`: how many decoded nodes are kept (a leaf is ~1 KiB).
  explicit MapReader(SlotReader& reader, size_t cache_nodes = 4096);

  /// The leaf of a segment; nothing when the whole segment reads as zeros.
  Result<std::shared_ptr<const Leaf>> find_leaf(const MapRoot& map, uint64_t segment_index,
                                                const CancelToken& cancel);
  /// The leaf's reference without reading the leaf itself.
  Result<std::optional<NodeRef>> find_leaf_ref(const MapRoot& map, uint64_t segment_index,
                                               const CancelToken& cancel);

  using LeafVisitor = std::function<Status(uint64_t segment_index, const NodeRef& leaf)>;
  /// Calls `visit` for every leaf in [first_segment, end_segment), ascending.
  Status for_each_leaf(const MapRoot& map, uint64_t first_segment, uint64_t end_segment,
                       const LeafVisitor& visit, const CancelToken& cancel);

  using DiffVisitor =
      std::function<Status(uint64_t segment_index, const std::optional<NodeRef>& before,
                           const std::optional<NodeRef>& after)>;
  /// Calls `visit` for each segment whose leaf differs. Equal subtrees are never read.
  Status diff(const MapRoot& before, const MapRoot& after, const DiffVisitor& visit,
              const CancelToken& cancel);

  Result<std::shared_ptr<const Leaf>> leaf(const NodeRef& ref, const CancelToken& cancel);
  Result<std::shared_ptr<const InnerNode>> inner(const NodeRef& ref, uint8_t level,
                                                 const CancelToken& cancel);
  SlotReader& slots() { return reader_; }

 private:
  struct Cached {
    std::shared_ptr<const Leaf> leaf;
    std::shared_ptr<const InnerNode> inner;
  };
  std::optional<Cached> lookup(const NodeRef& ref);
  void remember(const NodeRef& ref, Cached node);
  Status walk(const NodeRef& ref, uint8_t level, uint64_t base_segment, uint64_t first_segment,
              uint64_t end_segment, const LeafVisitor& visit, const CancelToken& cancel);
  Status diff_nodes(const std::optional<NodeRef>& before, const std::optional<NodeRef>& after,
                    uint8_t level, uint64_t base_segment, const DiffVisitor& visit,
                    const CancelToken& cancel);
  Result<std::optional<NodeRef>> raise(const MapRoot& map, uint8_t level,
                                       const CancelToken& cancel);

  SlotReader& reader_;
  const size_t cache_nodes_;
  std::mutex mutex_;
  std::list<std::pair<ChunkId, Cached>> recent_;  // most recently used first
  std::unordered_map<ChunkId, std::list<std::pair<ChunkId, Cached>>::iterator, IdHash<ChunkTag>>
      index_;
};

}  // namespace reclo::repo
