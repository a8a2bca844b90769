#include "repo/map_node.h"

#include <fmt/format.h>

#include <algorithm>

namespace reclo::repo {
namespace {

constexpr uint8_t kLeafKind = 1;
constexpr uint8_t kInnerKind = 2;
constexpr uint16_t kPacksPerNodeMax = 1024;

Error damaged(std::string_view why) {
  return Error(Code::kCorruption, fmt::format("a map node is malformed: {}", why));
}

// Nodes name packs by their index in a table, since most references of a node share one.
class PackTable {
 public:
  uint16_t index_of(const PackId& pack) {
    const auto found = std::find(packs_.rbegin(), packs_.rend(), pack);
    if (found != packs_.rend()) return static_cast<uint16_t>(packs_.rend() - found - 1);
    packs_.push_back(pack);
    return static_cast<uint16_t>(packs_.size() - 1);
  }
  void write(ByteWriter& out) const {
    for (const PackId& pack : packs_) {
      out.raw(pack.session.bytes());
      out.u32(pack.number);
    }
  }
  Status read(ByteReader& in, size_t count) {
    if (count > kPacksPerNodeMax) return damaged("too many packs");
    for (size_t i = 0; i < count && in.ok(); ++i) {
      PackId pack;
      in.copy_to(pack.session.mutable_bytes());
      pack.number = in.u32();
      packs_.push_back(pack);
    }
    if (!in.ok()) return damaged("cut off in its pack table");
    return {};
  }
  const PackId* find(size_t index) const {
    return index < packs_.size() ? &packs_[index] : nullptr;
  }
  size_t size() const { return packs_.size(); }

 private:
  std::vector<PackId> packs_;
};

void write_slot(ByteWriter& out, uint16_t pack_index, const SlotAddress& at) {
  out.u16(pack_index);
  out.u16(at.slot);
  out.u32(at.offset_bytes);
  out.u32(at.stored_bytes);
}

Result<SlotAddress> read_slot(ByteReader& in, const PackTable& packs) {
  const uint16_t pack_index = in.u16();
  SlotAddress at;
  at.slot = in.u16();
  at.offset_bytes = in.u32();
  at.stored_bytes = in.u32();
  if (!in.ok()) return damaged("cut off in an address");
  const PackId* pack = packs.find(pack_index);
  if (pack == nullptr) return damaged("names a pack that is not in its table");
  if (at.stored_bytes == 0 || uint64_t{at.offset_bytes} + at.stored_bytes > kPackSizeBytesMax)
    return damaged("an address lies outside its pack");
  at.pack = *pack;
  return at;
}

// Table indexes come first in the bytes but are known only after the references were seen.
template <class Items, class Project>
std::vector<uint16_t> index_packs(PackTable& packs, const Items& items, Project pack_of) {
  std::vector<uint16_t> out;
  out.reserve(items.size());
  for (const auto& item : items) out.push_back(packs.index_of(pack_of(item)));
  return out;
}

Status check_extents(const Leaf& leaf) {
  uint32_t next_free_page = 0;
  for (const Extent& extent : leaf.extents) {
    if (extent.pages == 0 || extent.first_page < next_free_page ||
        uint32_t{extent.first_page} + extent.pages > kPagesPerSegment)
      return damaged("its extents overlap or leave the segment");
    if (extent.chunk >= leaf.chunks.size() ||
        uint32_t{extent.chunk_page} + extent.pages > leaf.chunks[extent.chunk].pages)
      return damaged("an extent lies outside its chunk");
    next_free_page = uint32_t{extent.first_page} + extent.pages;
  }
  return {};
}

}  // namespace

uint32_t Leaf::mapped_pages() const {
  uint32_t pages = 0;
  for (const Extent& extent : extents) pages += extent.pages;
  return pages;
}

Bytes encode_leaf(const Leaf& leaf) {
  RECLO_CHECK(check_extents(leaf).ok());
  PackTable packs;
  const auto pack_indexes =
      index_packs(packs, leaf.chunks, [](const ChunkRef& chunk) { return chunk.at.pack; });
  Bytes bytes;
  ByteWriter out(bytes);
  out.u8(kLeafKind);
  out.u8(0);
  out.u16(static_cast<uint16_t>(packs.size()));
  out.u16(static_cast<uint16_t>(leaf.chunks.size()));
  out.u16(static_cast<uint16_t>(leaf.extents.size()));
  packs.write(out);
  for (size_t i = 0; i < leaf.chunks.size(); ++i) {
    out.raw(leaf.chunks[i].id.bytes());
    write_slot(out, pack_indexes[i], leaf.chunks[i].at);
    out.u16(leaf.chunks[i].pages);
  }
  for (const Extent& extent : leaf.extents) {
    out.u16(extent.first_page);
    out.u16(extent.pages);
    out.u16(extent.chunk);
    out.u16(extent.chunk_page);
  }
  return bytes;
}

Bytes encode_inner_node(const InnerNode& node) {
  PackTable packs;
  const auto pack_indexes = index_packs(
      packs, node.children, [](const InnerNode::Child& child) { return child.node.at.pack; });
  Bytes bytes;
  ByteWriter out(bytes);
  out.u8(kInnerKind);
  out.u8(node.level);
  out.u16(static_cast<uint16_t>(packs.size()));
  out.u16(static_cast<uint16_t>(node.children.size()));
  packs.write(out);
  for (size_t i = 0; i < node.children.size(); ++i) {
    out.u8(node.children[i].index);
    out.raw(node.children[i].node.id.bytes());
    write_slot(out, pack_indexes[i], node.children[i].node.at);
  }
  return bytes;
}

Result<Leaf> decode_leaf(ByteSpan bytes) {
  ByteReader in(bytes);
  const uint8_t kind = in.u8();
  const uint8_t reserved = in.u8();
  const size_t pack_count = in.u16();
  const size_t chunk_count = in.u16();
  const size_t extent_count = in.u16();
  if (!in.ok() || kind != kLeafKind) return damaged("not a leaf");
  if (reserved != 0) return Error(Code::kUnsupported, "a map leaf of a newer ReClo version");
  if (chunk_count > kPagesPerSegment || extent_count > kExtentsPerLeafMax)
    return damaged("too many chunks or extents");
  PackTable packs;
  RECLO_TRY(packs.read(in, pack_count));
  Leaf leaf;
  leaf.chunks.reserve(chunk_count);
  for (size_t i = 0; i < chunk_count; ++i) {
    ChunkRef chunk;
    in.copy_to(chunk.id.mutable_bytes());
    RECLO_ASSIGN_OR_RETURN(chunk.at, read_slot(in, packs));
    chunk.pages = in.u16();
    if (chunk.pages == 0 || chunk.pages > kPagesPerSegment)
      return damaged("a chunk has no sane length");
    leaf.chunks.push_back(chunk);
  }
  leaf.extents.reserve(extent_count);
  for (size_t i = 0; i < extent_count; ++i) {
    Extent extent;
    extent.first_page = in.u16();
    extent.pages = in.u16();
    extent.chunk = in.u16();
    extent.chunk_page = in.u16();
    leaf.extents.push_back(extent);
  }
  if (!in.at_end()) return damaged("its length does not fit its counts");
  RECLO_TRY(check_extents(leaf));
  return leaf;
}

Result<InnerNode> decode_inner_node(ByteSpan bytes, uint8_t expected_level) {
  ByteReader in(bytes);
  const uint8_t kind = in.u8();
  InnerNode node;
  node.level = in.u8();
  const size_t pack_count = in.u16();
  const size_t child_count = in.u16();
  if (!in.ok() || kind != kInnerKind) return damaged("not an inner node");
  if (node.level != expected_level || node.level == 0 || node.level > kMapHeightMax)
    return damaged("it stands on the wrong level");
  if (child_count == 0 || child_count > kMapFanOut) return damaged("no sane number of children");
  PackTable packs;
  RECLO_TRY(packs.read(in, pack_count));
  node.children.reserve(child_count);
  for (size_t i = 0; i < child_count; ++i) {
    InnerNode::Child child;
    child.index = in.u8();
    in.copy_to(child.node.id.mutable_bytes());
    RECLO_ASSIGN_OR_RETURN(child.node.at, read_slot(in, packs));
    if (!node.children.empty() && child.index <= node.children.back().index)
      return damaged("its children are not in order");
    node.children.push_back(child);
  }
  if (!in.at_end()) return damaged("its length does not fit its counts");
  return node;
}

void remove_unused_chunks(Leaf& leaf) {
  std::vector<bool> used(leaf.chunks.size(), false);
  for (const Extent& extent : leaf.extents) used[extent.chunk] = true;
  std::vector<uint16_t> renumbered(leaf.chunks.size(), 0);
  std::vector<ChunkRef> kept;
  for (size_t i = 0; i < leaf.chunks.size(); ++i) {
    if (!used[i]) continue;
    renumbered[i] = static_cast<uint16_t>(kept.size());
    kept.push_back(leaf.chunks[i]);
  }
  for (Extent& extent : leaf.extents) extent.chunk = renumbered[extent.chunk];
  leaf.chunks = std::move(kept);
}

uint8_t map_height(uint64_t disk_size_bytes) {
  uint64_t covered_segments = 1;
  uint8_t height = 0;
  while (covered_segments < divide_up(disk_size_bytes, kSegmentSizeBytes)) {
    covered_segments *= kMapFanOut;
    ++height;
  }
  return height;
}

uint64_t segments_per_child(uint8_t level) {
  uint64_t segments = 1;
  for (uint8_t i = 1; i < level; ++i) segments *= kMapFanOut;
  return segments;
}

}  // namespace reclo::repo
