#include "repo/verify.h"

#include <gtest/gtest.h>

#include "repo/test_repository.h"
#include "store/fault_store.h"

namespace reclo::repo {
namespace {

using testing::must;
using testing::test_limit;

struct World {
  store::MemoryStore store;
  testing::TestRepository repository{store};
  testing::TestServer alpha{repository.get(), "alpha"};
  testing::TestServer beta{repository.get(), "beta"};
  World() {
    testing::make_three_points(alpha, 1);
    testing::make_three_points(beta, 50001);
  }
  VerifyReport verify(VerifyOptions options) {
    NullProgress progress;
    options.threads = 2;
    return must(verify_repository(repository.get(), options, progress, test_limit()));
  }
  VerifyReport verify_all() {
    VerifyOptions options;
    options.read_data = true;
    options.box = &repository.box();
    return verify(options);
  }
  /// The first point's leaf of a segment of disk 0 of `alpha`.
  Leaf leaf(size_t point, uint64_t segment) {
    const auto slots = alpha.reader(std::nullopt);
    MapReader maps(*slots);
    const DiskRecord& disk = alpha.points()[point].record.disks[0];
    return *must(maps.find_leaf(MapRoot::of(disk), segment, test_limit()));
  }
  void flip(const std::string& key, size_t at) {
    Bytes object = must(store.get(key, 64 * kMiB, test_limit()));
    object[at] ^= 1;
    store.overwrite(key, std::move(object));
  }
};

TEST(Verify, AWholeRepositoryHasNoProblems) {
  World world;
  const VerifyReport report = world.verify_all();
  for (const Problem& problem : report.problems)
    ADD_FAILURE() << problem.object << ": " << problem.what;
  EXPECT_EQ(report.points_checked, 6u);
  EXPECT_EQ(report.open_sessions, 0u);
  EXPECT_EQ(report.packs_unreferenced, 0u);
  EXPECT_TRUE(report.servers_not_checked.empty());
  // Five chunks of the first point, three of the second, four of the third; for each server.
  EXPECT_EQ(report.chunks_checked, 2u * (5 + 3 + 3));
  EXPECT_GT(report.nodes_checked, 2u * 6);
  // Each byte once: less than what is stored, headers and footers being extra.
  uint64_t stored = 0;
  must(world.store.list(
      "machines/",
      [&](const store::ObjectInfo& info) -> Status {
        stored += info.size_bytes;
        return {};
      },
      test_limit()));
  EXPECT_LT(report.data_bytes_read, stored);
}

TEST(Verify, LessKeysMeanLessChecks) {
  World world;
  VerifyOptions options;
  options.read_data = true;
  NullProgress progress;
  EXPECT_EQ(
      verify_repository(world.repository.get(), options, progress, test_limit()).error().code(),
      Code::kInvalidArgument);
  options.read_data = false;
  const VerifyReport none = world.verify(options);
  EXPECT_EQ(none.servers_not_checked.size(), 2u);
  EXPECT_EQ(none.nodes_checked, 0u);
  options.machine_keys = &world.alpha.keys();
  const VerifyReport own = world.verify(options);
  EXPECT_EQ(own.servers_not_checked, std::vector<std::string>{"beta"});
  EXPECT_GT(own.nodes_checked, 0u);
  EXPECT_TRUE(own.problems.empty());
}

TEST(Verify, ADamagedChunkNamesItsAddressesInEveryPoint) {
  World world;
  const Leaf leaf = world.leaf(0, 7);
  ASSERT_EQ(leaf.chunks.size(), 1u);
  const std::string key = layout::pack(world.alpha.keys().id, leaf.chunks[0].at.pack);
  world.flip(key, leaf.chunks[0].at.offset_bytes + 100);
  const VerifyReport report = world.verify_all();
  ASSERT_EQ(report.problems.size(), 1u);
  const Problem& problem = report.problems[0];
  EXPECT_EQ(problem.object, key);
  EXPECT_NE(problem.what.find("slot"), std::string::npos);
  // 20 pages; from the second point on page 4 lies in a patch, from the third also page 5.
  const uint64_t base = 7 * kSegmentSizeBytes;
  struct Expected {
    size_t point;
    uint64_t offset;
    uint64_t pages;
  };
  const std::vector<Expected> expected = {{0, base, 20},
                                          {1, base, 4},
                                          {1, base + 5 * kPageSizeBytes, 15},
                                          {2, base, 4},
                                          {2, base + 6 * kPageSizeBytes, 14}};
  ASSERT_EQ(problem.affected.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const AffectedRange& range = problem.affected[i];
    EXPECT_EQ(range.server, "alpha");
    EXPECT_EQ(range.point, world.alpha.points()[expected[i].point].record.id) << i;
    EXPECT_EQ(range.disk_index, 0u);
    EXPECT_EQ(range.offset_bytes, expected[i].offset) << i;
    EXPECT_EQ(range.size_bytes, expected[i].pages * kPageSizeBytes) << i;
  }
  // Without reading data it cannot be seen.
  VerifyOptions maps_only;
  maps_only.box = &world.repository.box();
  EXPECT_TRUE(world.verify(maps_only).problems.empty());
}

TEST(Verify, ADamagedRootCostsItsDiskAndNoOther) {
  World world;
  const Point& point = world.alpha.points()[1];
  const NodeRef root = *point.record.disks[0].map_root;
  world.flip(layout::pack(world.alpha.keys().id, root.at.pack), root.at.offset_bytes);
  const VerifyReport report = world.verify_all();
  ASSERT_EQ(report.problems.size(), 1u);
  ASSERT_EQ(report.problems[0].affected.size(), 1u);
  const AffectedRange& range = report.problems[0].affected[0];
  EXPECT_EQ(range.point, point.record.id);
  EXPECT_EQ(range.offset_bytes, 0u);
  EXPECT_EQ(range.size_bytes, point.record.disks[0].size_bytes);
  EXPECT_EQ(report.points_checked, 6u);
}

TEST(Verify, AMissingPackIsFoundWithoutReadingData) {
  World world;
  const Leaf leaf = world.leaf(0, 40);
  const std::string key = layout::pack(world.alpha.keys().id, leaf.chunks[0].at.pack);
  must(world.store.remove(key, test_limit()));
  VerifyOptions options;
  options.box = &world.repository.box();
  const VerifyReport report = world.verify(options);
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].object, key);
  EXPECT_NE(report.problems[0].what.find("missing"), std::string::npos);
  // All points, both disks.
  std::set<std::pair<std::string, uint32_t>> places;
  for (const AffectedRange& range : report.problems[0].affected)
    places.insert({range.point.hex(), range.disk_index.value()});
  EXPECT_EQ(places.size(), 6u);
}

TEST(Verify, ATruncatedPackCostsOnlyWhatIsGone) {
  World world;
  const Leaf first = world.leaf(0, 0);
  const std::string key = layout::pack(world.alpha.keys().id, first.chunks[0].at.pack);
  Bytes object = must(world.store.get(key, 64 * kMiB, test_limit()));
  object.resize(first.chunks[0].at.offset_bytes + first.chunks[0].at.stored_bytes);
  world.store.overwrite(key, object);
  const VerifyReport report = world.verify_all();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].what.find("cut off"), std::string::npos);
  for (const AffectedRange& range : report.problems[0].affected)
    EXPECT_TRUE(range.disk_index == 1u || range.offset_bytes >= kSegmentSizeBytes);
}

TEST(Verify, ADamagedHeaderCostsNoDataWhileAnotherPackHasTheKey) {
  World world;
  testing::TestServer gamma(world.repository.get(), "gamma");
  gamma.set_slots_per_pack(2);
  testing::make_three_points(gamma, 70001);
  std::vector<std::string> keys;
  must(world.store.list(
      layout::packs_prefix(gamma.keys().id, gamma.points()[0].record.id),
      [&](const store::ObjectInfo& info) -> Status {
        keys.push_back(info.key);
        return {};
      },
      test_limit()));
  world.flip(keys[0], 100);  // in the sealed data key
  const VerifyReport report = world.verify_all();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].object, keys[0]);
  EXPECT_TRUE(report.problems[0].affected.empty());
}

TEST(Verify, ListsAreBounded) {
  World world;
  const Leaf leaf = world.leaf(0, 7);
  world.flip(layout::pack(world.alpha.keys().id, leaf.chunks[0].at.pack),
             leaf.chunks[0].at.offset_bytes);
  for (size_t i = 0; i < 3; ++i)
    world.flip(layout::session_begin(world.alpha.keys().id, world.alpha.points()[i].record.id), 30);
  VerifyOptions options;
  options.read_data = true;
  options.box = &world.repository.box();
  options.ranges_per_problem_max = 2;
  options.problems_max = 10;
  VerifyReport report = world.verify(options);
  ASSERT_EQ(report.problems.size(), 4u);
  EXPECT_FALSE(report.problems_cut);
  EXPECT_EQ(report.problems.back().affected.size(), 2u);
  EXPECT_TRUE(report.problems.back().affected_cut);
  options.problems_max = 2;
  report = world.verify(options);
  EXPECT_EQ(report.problems.size(), 2u);
  EXPECT_TRUE(report.problems_cut);
}

TEST(Verify, InterruptedBackupsAreNoProblem) {
  World world;
  auto session =
      must(SessionWriter::begin(world.repository.get(), world.alpha.keys(), {}, test_limit()));
  must(session->upload(session->new_pack(PackKind::kData).finish(), test_limit()));
  const VerifyReport report = world.verify_all();
  EXPECT_TRUE(report.problems.empty());
  EXPECT_EQ(report.open_sessions, 1u);
  EXPECT_EQ(report.packs_unreferenced, 1u);
}

TEST(Verify, AStoreOutOfReachIsAnErrorAndNoDamage) {
  auto* memory = new store::MemoryStore;
  testing::TestRepository keys(*memory);
  testing::TestServer server(keys.get(), "srv");
  testing::make_three_points(server, 1);
  store::FaultStore store(std::unique_ptr<store::ObjectStore>(memory),
                          {.seed = 3, .fail_before_percent = 10});
  std::optional<Repository> repository;
  while (!repository) {
    auto opened = Repository::open(store, test_limit());
    if (opened.ok()) repository = std::move(opened).value();
  }
  VerifyOptions options;
  options.read_data = true;
  options.box = &keys.box();
  NullProgress progress;
  size_t failed = 0;
  for (int i = 0; i < 20; ++i) {
    const auto report = verify_repository(*repository, options, progress, test_limit());
    if (report.ok()) {
      EXPECT_TRUE(report->problems.empty());
    } else {
      ++failed;
      EXPECT_EQ(report.error().code(), Code::kUnavailable) << report.error().message();
    }
  }
  EXPECT_GT(failed, 0u);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(verify_repository(keys.get(), options, progress, CancelToken(stop.get_token()))
                .error()
                .code(),
            Code::kCancelled);
}

}  // namespace
}  // namespace reclo::repo
