// Map nodes. Input: one byte that says what is expected (0: a leaf, 1-4: an inner node of that
// level), then the node. What decodes keeps every bound and encodes to something that decodes
// alike.
#include "base/check.h"
#include "repo/map_node.h"

using namespace reclo;

namespace {

void check_leaf(ByteSpan bytes) {
  auto leaf = repo::decode_leaf(bytes);
  if (!leaf.ok()) return;
  RECLO_CHECK(leaf->mapped_pages() <= kPagesPerSegment);
  for (const repo::Extent& extent : leaf->extents) {
    RECLO_CHECK(extent.chunk < leaf->chunks.size());
    RECLO_CHECK(extent.chunk_page + extent.pages <= leaf->chunks[extent.chunk].pages);
    RECLO_CHECK(uint32_t{extent.first_page} + extent.pages <= kPagesPerSegment);
  }
  const auto again = repo::decode_leaf(repo::encode_leaf(*leaf));
  RECLO_CHECK(again.ok() && *again == *leaf);
  repo::remove_unused_chunks(*leaf);
  const auto less = repo::decode_leaf(repo::encode_leaf(*leaf));
  RECLO_CHECK(less.ok() && *less == *leaf);
}

void check_inner_node(ByteSpan bytes, uint8_t level) {
  const auto node = repo::decode_inner_node(bytes, level);
  if (!node.ok()) return;
  RECLO_CHECK(node->level == level && !node->children.empty());
  const auto again = repo::decode_inner_node(repo::encode_inner_node(*node), level);
  RECLO_CHECK(again.ok() && *again == *node);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteSpan node = ByteSpan(data, size).subspan(1);
  const auto level = static_cast<uint8_t>(data[0] % 6);
  if (level == 0) {
    check_leaf(node);
  } else {
    check_inner_node(node, level);
  }
  return 0;
}
