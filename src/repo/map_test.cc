// The block map against a plain oracle: std::map from segment to leaf.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/limits.h"
#include "os/random.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;
using testing::test_limit;
using Oracle = std::map<uint64_t, Leaf>;

struct Generation {
  uint64_t segment_count = 0;
  MapRoot root;
  Oracle leaves;
};

// Stores nodes in map packs of a memory store, and builds generations of one map.
class MapWorld {
 public:
  explicit MapWorld(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t bound) { return random_() % bound; }
  std::unique_ptr<SlotReader> slots() {
    return std::make_unique<SlotReader>(store_, repository_, machine_, map_key_.clone(),
                                        std::nullopt);
  }
  uint64_t reads() const { return store_.counters().requests_get; }
  uint64_t nodes_written() const { return nodes_written_; }

  // No two are alike: that keeps "differs" and "was set" the same thing.
  Leaf unique_leaf() {
    Leaf leaf;
    ChunkRef chunk;
    chunk.id = os::random_id<ChunkId>();
    chunk.at = {{session_, 0}, 1, 600, 100};
    chunk.pages = 64;
    leaf.chunks = {chunk};
    leaf.extents = {{static_cast<uint16_t>(below(900)), 60, 0, 4}};
    return leaf;
  }

  Generation build(const Generation& before, uint64_t segment_count,
                   const std::map<uint64_t, std::optional<Leaf>>& sets) {
    pack_ = std::make_unique<PackBuilder>(
        PackHeader{PackKind::kMap, repository_, machine_, {session_, ++pack_number_}, {}}, map_key_,
        map_key_);
    const auto reader_slots = slots();
    MapReader reader(*reader_slots);
    MapBuilder builder(segment_count * kSegmentSizeBytes - below(2) * 4096, before.root, &reader,
                       [&](ByteSpan node) { return sink(node); });
    Generation after{segment_count, {}, before.leaves};
    after.leaves.erase(after.leaves.lower_bound(segment_count), after.leaves.end());
    for (const auto& [segment, leaf] : sets) {
      must(builder.set(segment, leaf.value_or(Leaf()), test_limit()));
      if (leaf) {
        after.leaves[segment] = *leaf;
      } else {
        after.leaves.erase(segment);
      }
    }
    after.root = must(std::move(builder).finish(test_limit()));
    const SealedPack sealed = std::move(*pack_).finish();
    must(store_.put_if_absent(layout::pack(machine_, sealed.id), sealed.bytes, test_limit()));
    return after;
  }

  std::map<uint64_t, std::optional<Leaf>> random_sets(const Generation& before,
                                                      uint64_t segment_count) {
    std::map<uint64_t, std::optional<Leaf>> sets;
    const uint64_t count = below(12);
    for (uint64_t i = 0; i < count; ++i) {
      // Near the edges of nodes and of the disk, where mistakes live, and anywhere.
      uint64_t segment = below(segment_count);
      if (below(3) == 0) segment = std::min(segment_count - 1, below(4) * 255 + below(3));
      if (below(4) == 0) segment = segment_count - 1;
      if (below(4) == 0 && !before.leaves.empty())
        segment = std::min(segment_count - 1, before.leaves.begin()->first);
      sets[segment] = below(4) == 0 ? std::nullopt : std::optional(unique_leaf());
    }
    return sets;
  }

 private:
  Result<NodeRef> sink(ByteSpan node) {
    ++nodes_written_;
    const ChunkId id = crypto::ContentHasher(map_key_).node_id(node);
    return NodeRef{id, pack_->add(id, compressor_.encode(node, 1))};
  }

  std::mt19937_64 random_;
  store::MemoryStore store_;
  RepositoryId repository_ = os::random_id<RepositoryId>();
  MachineId machine_ = os::random_id<MachineId>();
  SessionId session_ = os::random_id<SessionId>();
  crypto::SecretKey map_key_ = crypto::SecretKey::random();
  Compressor compressor_;
  std::unique_ptr<PackBuilder> pack_;
  uint32_t pack_number_ = 0;
  uint64_t nodes_written_ = 0;
};

// The inner nodes above `segments`, in a map of this height.
size_t ancestor_count(const std::set<uint64_t>& segments, uint8_t height) {
  size_t count = 0;
  for (uint8_t level = 1; level <= height; ++level) {
    std::set<uint64_t> positions;
    for (const uint64_t segment : segments)
      positions.insert(segment / (segments_per_child(level) * kMapFanOut));
    count += positions.size();
  }
  return count;
}

Oracle read_all(MapReader& reader, const Generation& generation, uint64_t first, uint64_t end) {
  Oracle out;
  uint64_t next = first;
  must(reader.for_each_leaf(
      generation.root, first, end,
      [&](uint64_t segment, const NodeRef& ref) -> Status {
        EXPECT_GE(segment, next);
        next = segment + 1;
        out[segment] = *must(reader.leaf(ref, test_limit()));
        return {};
      },
      test_limit()));
  return out;
}

void expect_same(MapWorld& world, const Generation& generation) {
  const auto slots = world.slots();
  MapReader reader(*slots, 16);
  EXPECT_EQ(generation.root.height, map_height(generation.segment_count * kSegmentSizeBytes));
  EXPECT_EQ(read_all(reader, generation, 0, UINT64_MAX), generation.leaves);
  for (int i = 0; i < 5; ++i) {
    const uint64_t first = world.below(generation.segment_count + 2);
    const uint64_t end = first + world.below(generation.segment_count + 2);
    EXPECT_EQ(read_all(reader, generation, first, end),
              Oracle(generation.leaves.lower_bound(first), generation.leaves.lower_bound(end)));
  }
  std::set<uint64_t> probes = {
      0,         1, 255, 256, 65535, 65536, generation.segment_count - 1, generation.segment_count,
      UINT64_MAX};
  for (const auto& [segment, leaf] : generation.leaves) probes.insert({segment, segment + 1});
  for (const uint64_t segment : probes) {
    const auto found = must(reader.find_leaf(generation.root, segment, test_limit()));
    const auto expected = generation.leaves.find(segment);
    ASSERT_EQ(found != nullptr, expected != generation.leaves.end()) << segment;
    if (found) {
      EXPECT_EQ(*found, expected->second);
    }
  }
}

std::set<uint64_t> difference(const Oracle& before, const Oracle& after) {
  std::set<uint64_t> out;
  for (const auto& [segment, leaf] : before)
    if (const auto found = after.find(segment); found == after.end() || found->second != leaf)
      out.insert(segment);
  for (const auto& [segment, leaf] : after)
    if (!before.contains(segment)) out.insert(segment);
  return out;
}

void expect_diff(MapWorld& world, const Generation& before, const Generation& after) {
  const auto slots = world.slots();
  MapReader reader(*slots);
  const std::set<uint64_t> expected = difference(before.leaves, after.leaves);
  std::set<uint64_t> seen;
  const uint64_t reads_before = world.reads();
  must(reader.diff(
      before.root, after.root,
      [&](uint64_t segment, const std::optional<NodeRef>& old,
          const std::optional<NodeRef>& now) -> Status {
        EXPECT_TRUE(seen.empty() || segment > *seen.rbegin()) << "not ascending";
        seen.insert(segment);
        EXPECT_EQ(old.has_value(), before.leaves.contains(segment)) << segment;
        EXPECT_EQ(now.has_value(), after.leaves.contains(segment)) << segment;
        return {};
      },
      test_limit()));
  EXPECT_EQ(seen, expected);
  // Both sides of each differing path; across heights also the way down to the lower map's root.
  const uint64_t reads = world.reads() - reads_before;
  const uint8_t height = std::max(before.root.height, after.root.height);
  const size_t way_down =
      static_cast<size_t>(height) - std::min(before.root.height, after.root.height);
  EXPECT_LE(reads, 2 * ancestor_count(expected, height) + way_down);
}

TEST(Map, AgreesWithAnOracleOverGenerations) {
  const std::vector<uint64_t> sizes = {1, 2, 100, 255, 256, 257, 600, 5000, 65536, 65537};
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    MapWorld world(seed);
    std::vector<Generation> generations = {{1, {}, {}}};
    for (int step = 0; step < 8; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
      const Generation& before = generations.back();
      // Mostly the same disk; sometimes it grows or shrinks, also across heights.
      uint64_t segment_count = before.segment_count;
      if (step == 0 || world.below(2) == 0) segment_count = sizes[world.below(sizes.size())];
      if (world.below(6) == 0) segment_count = std::max<uint64_t>(1, segment_count / 2);
      const auto sets = world.random_sets(before, segment_count);
      generations.push_back(world.build(before, segment_count, sets));
      expect_same(world, generations.back());
      expect_diff(world, generations[world.below(generations.size())], generations.back());
      expect_diff(world, generations.back(), generations[world.below(generations.size())]);
      expect_same(world, generations[world.below(generations.size() - 1) + 1]);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(Map, ShrunkenDiskForgetsItsEndForEver) {
  MapWorld world(7);
  for (const uint64_t full : {200u, 700u, 70000u}) {
    std::map<uint64_t, std::optional<Leaf>> sets;
    for (uint64_t segment = 0; segment < full; segment += full / 50 + 1)
      sets[segment] = world.unique_leaf();
    sets[full - 1] = world.unique_leaf();
    const Generation large = world.build({1, {}, {}}, full, sets);
    for (const uint64_t kept : {uint64_t{1}, uint64_t{3}, uint64_t{256}, full / 2, full - 1}) {
      if (kept >= full) continue;
      SCOPED_TRACE(std::to_string(full) + " to " + std::to_string(kept));
      const Generation small = world.build(large, kept, {});
      expect_same(world, small);
      const Generation again = world.build(small, full, {});
      expect_same(world, again);
      EXPECT_TRUE(again.leaves.empty() || again.leaves.rbegin()->first < kept);
      expect_diff(world, large, again);
    }
  }
}

TEST(Map, UnchangedMapIsTakenOverWithoutWriting) {
  MapWorld world(8);
  std::map<uint64_t, std::optional<Leaf>> sets;
  for (uint64_t segment = 0; segment < 66000; segment += 97) sets[segment] = world.unique_leaf();
  const Generation first = world.build({1, {}, {}}, 66000, sets);
  const uint64_t written = world.nodes_written();
  const Generation second = world.build(first, 66000, {});
  EXPECT_EQ(world.nodes_written(), written);
  EXPECT_EQ(second.root.root, first.root.root);
  const uint64_t reads = world.reads();
  expect_diff(world, first, second);
  EXPECT_EQ(world.reads(), reads) << "equal maps were read";
}

TEST(Map, OneChangeWritesOnePath) {
  MapWorld world(9);
  std::map<uint64_t, std::optional<Leaf>> sets;
  for (uint64_t segment = 0; segment < 66000; segment += 97) sets[segment] = world.unique_leaf();
  const Generation first = world.build({1, {}, {}}, 66000, sets);
  const uint64_t written = world.nodes_written();
  const uint64_t reads = world.reads();
  const Generation second = world.build(first, 66000, {{{12345, world.unique_leaf()}}});
  EXPECT_EQ(world.nodes_written() - written, 1u + first.root.height);
  // The changed path and the one to the disk's end, which share the root.
  EXPECT_LE(world.reads() - reads, 2u * first.root.height - 1);
  expect_same(world, second);
}

TEST(Map, EmptyLeavesMakeAnEmptyMap) {
  MapWorld world(10);
  for (const uint64_t segments : {1u, 300u, 70000u}) {
    const Generation one =
        world.build({1, {}, {}}, segments, {{{segments - 1, world.unique_leaf()}}});
    EXPECT_TRUE(one.root.root.has_value());
    const Generation none = world.build(one, segments, {{{segments - 1, std::nullopt}}});
    EXPECT_FALSE(none.root.root.has_value());
    expect_same(world, none);
  }
}

TEST(Map, HeightFollowsTheSize) {
  EXPECT_EQ(map_height(1), 0);
  EXPECT_EQ(map_height(kSegmentSizeBytes), 0);
  EXPECT_EQ(map_height(kSegmentSizeBytes + 1), 1);
  EXPECT_EQ(map_height(256 * kSegmentSizeBytes), 1);
  EXPECT_EQ(map_height(256 * kSegmentSizeBytes + 1), 2);
  EXPECT_EQ(map_height(256 * kGiB), 2);
  EXPECT_EQ(map_height(kTiB), 3);
  EXPECT_EQ(map_height(kDiskSizeBytesMax), kMapHeightMax);
}

}  // namespace
}  // namespace reclo::repo
