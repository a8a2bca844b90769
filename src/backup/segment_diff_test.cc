#include "backup/segment_diff.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "os/random.h"

namespace reclo::backup {
namespace {

PageTag tag_of(uint64_t content) {
  PageTag tag;
  store_le(tag.mutable_bytes().data(), content);
  return tag;
}

// A segment whose chunks are remembered as the contents of their pages: 0 is a hole.
class SimulatedSegment {
 public:
  /// Applies what diff_segment() says, as the pipeline would; returns how many pages were stored.
  uint32_t back_up(const SegmentTags& now, const SegmentTags* before) {
    const SegmentDiff diff = diff_segment(now, before, has_leaf_ ? &leaf_ : nullptr);
    repo::Leaf leaf = diff.kept;
    uint32_t stored_pages = 0;
    last_plans_ = diff.chunks;
    for (const ChunkPlan& plan : diff.chunks) {
      repo::ChunkRef chunk;
      store_le(chunk.id.mutable_bytes().data(), ++next_chunk_);
      chunk.pages = plan.pages;
      chunk.at = {{session_, 0}, static_cast<uint16_t>(next_chunk_), 4096, 1000};
      std::vector<PageTag>& content = chunks_[next_chunk_];
      for (const PageRun& run : plan.runs)
        for (uint32_t i = 0; i < run.pages; ++i) content.push_back(now[run.first_page + i]);
      EXPECT_EQ(content.size(), plan.pages);
      stored_pages += plan.pages;
      add_chunk(leaf, chunk, plan.runs);
    }
    finish_leaf(leaf);
    leaf_ = leaf;
    has_leaf_ = true;
    return stored_pages;
  }

  /// What a reader would find, page by page.
  SegmentTags content() const {
    SegmentTags tags{};
    for (const repo::Extent& extent : leaf_.extents)
      for (uint32_t i = 0; i < extent.pages; ++i) {
        const repo::ChunkRef& chunk = leaf_.chunks[extent.chunk];
        const auto& pages = chunks_.at(load_le<uint64_t>(chunk.id.bytes().data()));
        tags[extent.first_page + i] = pages.at(extent.chunk_page + i);
      }
    return tags;
  }
  const repo::Leaf& leaf() const { return leaf_; }
  const std::vector<ChunkPlan>& last_plans() const { return last_plans_; }

 private:
  repo::Leaf leaf_;
  bool has_leaf_ = false;
  const SessionId session_ = os::random_id<SessionId>();
  uint64_t next_chunk_ = 0;
  std::map<uint64_t, std::vector<PageTag>> chunks_;
  std::vector<ChunkPlan> last_plans_;
};

SegmentTags full_segment(uint64_t seed) {
  SegmentTags tags;
  for (size_t p = 0; p < tags.size(); ++p) tags[p] = tag_of(seed * 10000 + p + 1);
  return tags;
}

void expect_valid(const SimulatedSegment& segment, const SegmentTags& now) {
  ASSERT_TRUE(same_pages(segment.content(), now));
  // What the reader's decoder refuses must never be written.
  ASSERT_TRUE(repo::decode_leaf(repo::encode_leaf(segment.leaf())).ok());
}

TEST(SegmentDiff, NothingKnownMakesOneChunkAWindow) {
  SimulatedSegment segment;
  const SegmentTags now = full_segment(1);
  EXPECT_EQ(segment.back_up(now, nullptr), kPagesPerSegment);
  EXPECT_EQ(segment.last_plans().size(), kPagesPerSegment / kPagesPerChunk);
  expect_valid(segment, now);
}

TEST(SegmentDiff, AHoleIsNotStoredUnlessItIsShort) {
  SimulatedSegment segment;
  SegmentTags now = full_segment(1);
  for (size_t p = 10; p < 13; ++p) now[p] = PageTag();     // short: stored as zeros
  for (size_t p = 100; p < 120; ++p) now[p] = PageTag();   // long
  for (size_t p = 512; p < 1024; ++p) now[p] = PageTag();  // whole windows
  EXPECT_EQ(segment.back_up(now, nullptr), 512u - 20u);
  EXPECT_EQ(segment.last_plans().size(), 8u);
  expect_valid(segment, now);
}

TEST(SegmentDiff, ScatteredChangesBecomeOnePatch) {
  SimulatedSegment segment;
  const SegmentTags before = full_segment(1);
  segment.back_up(before, nullptr);
  SegmentTags now = before;
  for (const size_t p : {3, 200, 201, 777}) now[p] = tag_of(p + 1'000'000);
  EXPECT_EQ(segment.back_up(now, &before), 4u);
  EXPECT_EQ(segment.last_plans().size(), 1u);
  expect_valid(segment, now);
}

TEST(SegmentDiff, AReplacedWindowBecomesItsOwnChunk) {
  SimulatedSegment segment;
  const SegmentTags before = full_segment(1);
  segment.back_up(before, nullptr);
  SegmentTags now = before;
  for (size_t p = 128; p < 192; ++p) now[p] = tag_of(p + 1'000'000);
  now[500] = tag_of(5);
  EXPECT_EQ(segment.back_up(now, &before), kPagesPerChunk + 1u);
  ASSERT_EQ(segment.last_plans().size(), 2u);
  EXPECT_EQ(segment.last_plans()[0].runs, (std::vector<PageRun>{{128, kPagesPerChunk}}));
  expect_valid(segment, now);
}

TEST(SegmentDiff, MoreThanHalfReplacedIsRewrittenWhole) {
  SimulatedSegment segment;
  const SegmentTags before = full_segment(1);
  segment.back_up(before, nullptr);
  SegmentTags now = before;
  for (size_t p = 0; p < 1024; p += 2) now[p] = tag_of(p + 1'000'000);
  now[1] = tag_of(7);
  EXPECT_EQ(segment.back_up(now, &before), kPagesPerSegment);
  EXPECT_EQ(segment.last_plans().size(), 16u);
  expect_valid(segment, now);
}

TEST(SegmentDiff, NewHolesCostNothing) {
  SimulatedSegment segment;
  const SegmentTags before = full_segment(1);
  segment.back_up(before, nullptr);
  SegmentTags now = before;
  for (size_t p = 100; p < 300; ++p) now[p] = PageTag();
  EXPECT_EQ(segment.back_up(now, &before), 0u);
  expect_valid(segment, now);
  SegmentTags empty{};
  EXPECT_EQ(segment.back_up(empty, &now), 0u);
  expect_valid(segment, empty);
  EXPECT_TRUE(segment.leaf().chunks.empty());
}

TEST(SegmentDiff, TooManyExtentsAreRewritten) {
  SimulatedSegment segment;
  const SegmentTags before = full_segment(1);
  segment.back_up(before, nullptr);
  SegmentTags now = before;
  for (size_t p = 0; p < 1024; p += 3) now[p] = tag_of(p + 1'000'000);
  EXPECT_EQ(segment.back_up(now, &before), kPagesPerSegment);
  EXPECT_EQ(segment.leaf().extents.size(), 16u);
  expect_valid(segment, now);
}

TEST(SegmentDiff, SinglePagesInOneWindowAreMergedInTheEnd) {
  SimulatedSegment segment;
  SegmentTags now = full_segment(1);
  segment.back_up(now, nullptr);
  for (uint64_t generation = 1; generation <= 400; ++generation) {
    const SegmentTags before = now;
    now[generation * 3 % 192] = tag_of(generation + 1'000'000);
    segment.back_up(now, &before);
    expect_valid(segment, now);
    ASSERT_LE(segment.leaf().chunks.size(), kChunksPerLeafBeforeMerge + 1);
  }
}

TEST(SegmentDiff, AnyHistoryReadsBackPageByPage) {
  std::mt19937_64 random(20240611);
  const auto below = [&](uint64_t end) { return random() % end; };
  for (int history = 0; history < 40; ++history) {
    SimulatedSegment segment;
    SegmentTags now{};
    SegmentTags before{};
    bool first = true;
    for (int generation = 0; generation < 30; ++generation) {
      for (uint64_t runs = below(12); runs > 0; --runs) {
        const size_t start = below(1024);
        const size_t pages = below(4) == 0 ? below(400) : below(6);
        const bool hole = below(4) == 0;
        for (size_t p = start; p < std::min<size_t>(start + pages, 1024); ++p)
          now[p] = hole ? PageTag() : tag_of(random() | 1);
      }
      const bool tags_lost = first || below(10) == 0;
      const uint32_t stored = segment.back_up(now, tags_lost ? nullptr : &before);
      expect_valid(segment, now);
      if (HasFatalFailure()) return;
      EXPECT_LE(stored, kPagesPerSegment);
      EXPECT_LE(segment.leaf().extents.size(), kExtentsPerLeafBeforeRewrite);
      before = now;
      first = false;
    }
  }
}

}  // namespace
}  // namespace reclo::backup
