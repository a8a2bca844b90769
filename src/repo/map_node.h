// The nodes of the block map, as values and as bytes. docs/format.md §6.
//
// A leaf describes one 4 MiB segment: extents of 4 KiB pages that lie in chunks; what no extent
// covers reads as zeros. An inner node has up to 256 children one level down. Values only; any
// thread.
#pragma once

#include <span>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "repo/address.h"

namespace reclo::repo {

/// `pages` pages of the segment from `first_page` on are the pages of chunk `chunk` (an index into
/// Leaf::chunks) from `chunk_page` on.
struct Extent {
  uint16_t first_page = 0;
  uint16_t pages = 0;
  uint16_t chunk = 0;
  uint16_t chunk_page = 0;
  bool operator==(const Extent&) const = default;
};

struct Leaf {
  std::vector<ChunkRef> chunks;
  std::vector<Extent> extents;  // ascending, not overlapping, merged where possible
  bool operator==(const Leaf&) const = default;
  uint32_t mapped_pages() const;
};

struct InnerNode {
  struct Child {
    uint8_t index = 0;
    NodeRef node;
    bool operator==(const Child&) const = default;
  };
  uint8_t level = 1;            // its children are `level - 1`; leaves are level 0
  std::vector<Child> children;  // ascending by index
  bool operator==(const InnerNode&) const = default;
};

Bytes encode_leaf(const Leaf& leaf);
Bytes encode_inner_node(const InnerNode& node);
/// Checks every bound (docs/format.md §6): a decoded node can be used without further checks.
/// Errors: kCorruption, kUnsupported for a newer node version.
Result<Leaf> decode_leaf(ByteSpan bytes);
Result<InnerNode> decode_inner_node(ByteSpan bytes, uint8_t expected_level);

/// Drops chunks that no extent uses and renumbers; keeps the order of the rest.
void remove_unused_chunks(Leaf& leaf);

/// The number of inner levels above the leaves that a disk of this size needs: 0 for one segment.
uint8_t map_height(uint64_t disk_size_bytes);
/// How many segments one child of a node at `level` covers (256^(level-1)).
uint64_t segments_per_child(uint8_t level);

}  // namespace reclo::repo
