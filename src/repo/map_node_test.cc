#include "repo/map_node.h"

#include <gtest/gtest.h>

#include <random>

#include "os/random.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;

Leaf random_leaf(std::mt19937_64& random) {
  Leaf leaf;
  const size_t chunks = 1 + random() % 40;
  const std::vector<SessionId> sessions = {os::random_id<SessionId>(), os::random_id<SessionId>()};
  for (size_t i = 0; i < chunks; ++i) {
    ChunkRef chunk;
    chunk.id = os::random_id<ChunkId>();
    chunk.at = {{sessions[random() % 2], static_cast<uint32_t>(random())},
                static_cast<uint16_t>(random()),
                static_cast<uint32_t>(random() % kMiB),
                static_cast<uint32_t>(1 + random() % kMiB)};
    chunk.pages = static_cast<uint16_t>(1 + random() % 64);
    leaf.chunks.push_back(chunk);
  }
  for (uint32_t page = 0; page < kPagesPerSegment;) {
    page += static_cast<uint32_t>(random() % 40);
    const auto chunk = static_cast<uint16_t>(random() % chunks);
    const auto from = static_cast<uint16_t>(random() % leaf.chunks[chunk].pages);
    const auto pages = static_cast<uint16_t>(1 + random() % (leaf.chunks[chunk].pages - from));
    if (page + pages > kPagesPerSegment) break;
    leaf.extents.push_back({static_cast<uint16_t>(page), pages, chunk, from});
    page += pages;
  }
  return leaf;
}

InnerNode random_inner(std::mt19937_64& random) {
  InnerNode node;
  node.level = static_cast<uint8_t>(1 + random() % kMapHeightMax);
  for (uint32_t index = 0; index < kMapFanOut; ++index) {
    if (random() % 3 != 0 && !(index == 255 && node.children.empty())) continue;
    NodeRef child;
    child.id = os::random_id<ChunkId>();
    child.at = {{os::random_id<SessionId>(), static_cast<uint32_t>(random())},
                static_cast<uint16_t>(random()),
                512,
                300};
    node.children.push_back({static_cast<uint8_t>(index), child});
  }
  return node;
}

TEST(MapNode, GivesBackWhatItTook) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    const Leaf leaf = random_leaf(random);
    const Bytes bytes = encode_leaf(leaf);
    EXPECT_LE(bytes.size(), kNodeSizeBytesMax);
    EXPECT_EQ(must(decode_leaf(bytes)), leaf);
    EXPECT_EQ(encode_leaf(must(decode_leaf(bytes))), bytes);
    const InnerNode inner = random_inner(random);
    const Bytes inner_bytes = encode_inner_node(inner);
    EXPECT_EQ(must(decode_inner_node(inner_bytes, inner.level)), inner);
    EXPECT_FALSE(decode_inner_node(inner_bytes, static_cast<uint8_t>(inner.level + 1)).ok());
    EXPECT_FALSE(decode_leaf(inner_bytes).ok());
    EXPECT_FALSE(decode_inner_node(bytes, 1).ok());
  }
}

// What decodes at all stays within the bounds that readers rely on.
TEST(MapNode, DamagedLeavesAreRefusedOrHarmless) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 3000; ++i) {
    Bytes bytes = encode_leaf(random_leaf(random));
    for (size_t flips = 1 + random() % 3; flips > 0; --flips)
      bytes[random() % (random() % 2 == 0 ? 8 : bytes.size())] ^=
          static_cast<uint8_t>(1u << (random() % 8));
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 10));
    const auto leaf = decode_leaf(bytes);
    if (!leaf.ok()) continue;
    uint32_t end = 0;
    for (const Extent& extent : leaf->extents) {
      ASSERT_LT(extent.chunk, leaf->chunks.size());
      ASSERT_LE(extent.chunk_page + extent.pages, leaf->chunks[extent.chunk].pages);
      ASSERT_GE(extent.first_page, end);
      end = uint32_t{extent.first_page} + extent.pages;
      ASSERT_LE(end, kPagesPerSegment);
    }
    for (const ChunkRef& chunk : leaf->chunks)
      ASSERT_LE(uint64_t{chunk.at.offset_bytes} + chunk.at.stored_bytes, kPackSizeBytesMax);
  }
}

TEST(MapNode, EveryCutIsRefused) {
  std::mt19937_64 random(3);
  const Bytes leaf = encode_leaf(random_leaf(random));
  for (size_t size = 0; size < leaf.size(); ++size)
    ASSERT_FALSE(decode_leaf(ByteSpan(leaf).first(size)).ok());
  const InnerNode node = random_inner(random);
  const Bytes inner = encode_inner_node(node);
  for (size_t size = 0; size < inner.size(); ++size)
    ASSERT_FALSE(decode_inner_node(ByteSpan(inner).first(size), node.level).ok());
}

TEST(MapNode, UnusedChunksGo) {
  Leaf leaf;
  for (uint8_t i = 0; i < 4; ++i) {
    ChunkRef chunk;
    chunk.id.mutable_bytes()[0] = i;
    chunk.at.stored_bytes = 20;
    chunk.pages = 1;
    leaf.chunks.push_back(chunk);
  }
  leaf.extents = {{0, 1, 3, 0}, {5, 1, 1, 0}};
  remove_unused_chunks(leaf);
  ASSERT_EQ(leaf.chunks.size(), 2u);
  EXPECT_EQ(leaf.chunks[leaf.extents[0].chunk].id.bytes()[0], 3);
  EXPECT_EQ(leaf.chunks[leaf.extents[1].chunk].id.bytes()[0], 1);
}

}  // namespace
}  // namespace reclo::repo
