#include "recovery/ec2/block_span.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/units.h"

namespace reclo::recovery {
namespace {

constexpr uint64_t kBlock = 512 * kKiB;

TEST(BlockSpanTest, TouchedBlocksAreCountedOnce) {
  EXPECT_TRUE(block_spans({}).empty());
  EXPECT_EQ(block_spans({{0, 1}}), (std::vector<BlockSpan>{{0, 1}}));
  EXPECT_EQ(block_spans({{kBlock - 1, 2}}), (std::vector<BlockSpan>{{0, 2}}));
  EXPECT_EQ(block_spans({{kBlock, kBlock}, {3 * kBlock, 0}}), (std::vector<BlockSpan>{{1, 2}}));
  // Neighbours and overlaps become one, in whatever order they come.
  EXPECT_EQ(block_spans({{9 * kBlock, 1}, {0, 4096}, {4096, 2 * kBlock}}),
            (std::vector<BlockSpan>{{0, 3}, {9, 10}}));
}

TEST(BlockSpanTest, AgreesWithAPlainSetOfBlocks) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<disk::Range> ranges;
    std::set<uint32_t> model;
    for (int i = 0; i < 30; ++i) {
      const disk::Range range{random() % (300 * kBlock), random() % (4 * kBlock)};
      ranges.push_back(range);
      for (uint64_t at = range.offset_bytes; at < range.end_bytes();
           at = (at / kBlock + 1) * kBlock)
        model.insert(static_cast<uint32_t>(at / kBlock));
    }
    const auto spans = block_spans(ranges);
    EXPECT_EQ(count_blocks(spans), model.size());
    for (size_t i = 0; i < spans.size(); ++i) {
      EXPECT_LT(spans[i].first, spans[i].end);
      if (i > 0) {
        EXPECT_LT(spans[i - 1].end, spans[i].first);
      }
      for (uint32_t block = spans[i].first; block < spans[i].end; ++block)
        EXPECT_TRUE(model.contains(block));
    }
  }
}

TEST(BlockSpanTest, AVolumeHasWholeGibibytes) {
  EXPECT_EQ(volume_size_gib(1), 1u);
  EXPECT_EQ(volume_size_gib(kGiB), 1u);
  EXPECT_EQ(volume_size_gib(30 * kGiB + 512), 31u);
}

}  // namespace
}  // namespace reclo::recovery
