#include "repo/session.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "repo/test_repository.h"
#include "store/fault_store.h"

namespace reclo::repo {
namespace {

using testing::must;
using testing::test_limit;

struct World {
  store::MemoryStore store;
  testing::TestRepository repository{store};
  testing::TestServer server{repository.get(), "srv"};

  PointRecord record() const {
    PointRecord out;
    out.sequence = 1;
    DiskRecord disk;
    disk.name = "/dev/vda";
    disk.format = "raw";
    disk.size_bytes = kMiB;
    out.disks = {disk};
    return out;
  }
  bool has(const std::string& key) { return store.stat(key, test_limit()).ok(); }
};

TEST(Session, CommitsOnce) {
  World world;
  auto session =
      must(SessionWriter::begin(world.repository.get(), world.server.keys(), {}, test_limit()));
  const MachineId machine = world.server.keys().id;
  EXPECT_TRUE(world.has(layout::session_begin(machine, session->id())));
  EXPECT_FALSE(world.has(layout::session_end(machine, session->id())));
  PackBuilder builder = session->new_pack(PackKind::kData);
  builder.add(ChunkId(), Bytes(10, 1));
  const SealedPack pack = std::move(builder).finish();
  must(session->upload(pack, test_limit()));
  EXPECT_TRUE(world.has(layout::pack(machine, pack.id)));
  const Point point = must(session->commit(world.record(), test_limit()));
  EXPECT_EQ(point.record.id, session->id());
  EXPECT_EQ(point.record.server, "srv");
  const auto points = must(world.repository.get().points(
      must(world.repository.get().machines(nullptr, test_limit()))[0], test_limit()));
  ASSERT_EQ(points.points.size(), 1u);
  EXPECT_EQ(points.points[0].digest, point.digest);
  EXPECT_TRUE(points.open_sessions.empty());
}

TEST(Session, PackNumbersNeverRepeatAcrossRuns) {
  World world;
  auto first =
      must(SessionWriter::begin(world.repository.get(), world.server.keys(), {}, test_limit()));
  SessionOptions options;
  options.resume = first->id();
  options.run = 1;
  auto second = must(
      SessionWriter::begin(world.repository.get(), world.server.keys(), options, test_limit()));
  EXPECT_EQ(second->id(), first->id());
  std::set<PackId> ids;
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(ids.insert(first->new_pack(PackKind::kData).id()).second);
    EXPECT_TRUE(ids.insert(first->new_pack(PackKind::kMap).id()).second);
    const PackId id = second->new_pack(PackKind::kData).id();
    EXPECT_EQ(id.run(), 1u);
    EXPECT_TRUE(ids.insert(id).second);
  }
}

TEST(Session, AFenceWinsOverALateCommit) {
  World world;
  auto session =
      must(SessionWriter::begin(world.repository.get(), world.server.keys(), {}, test_limit()));
  must(world.store.put_if_absent(layout::session_end(world.server.keys().id, session->id()),
                                 fenced_end(), test_limit()));
  const auto late = session->commit(world.record(), test_limit());
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kConflict);
  EXPECT_FALSE(session->commit(world.record(), test_limit()).ok());
  SessionOptions resume;
  resume.resume = session->id();
  resume.run = 1;
  EXPECT_EQ(SessionWriter::begin(world.repository.get(), world.server.keys(), resume, test_limit())
                .error()
                .code(),
            Code::kConflict);
  const auto machine = must(world.repository.get().machines(nullptr, test_limit()))[0];
  const auto points = must(world.repository.get().points(machine, test_limit()));
  EXPECT_TRUE(points.points.empty());
  EXPECT_TRUE(points.warnings.empty());
}

TEST(Session, ATombstonedParentCannotBePinned) {
  World world;
  testing::make_three_points(world.server, 1);
  const PointId parent = world.server.points().back().record.id;
  must(world.store.put_if_absent(layout::tombstone(world.server.keys().id, parent), as_bytes("x"),
                                 test_limit()));
  SessionOptions options;
  options.pins = {parent};
  const auto session =
      SessionWriter::begin(world.repository.get(), world.server.keys(), options, test_limit());
  ASSERT_FALSE(session.ok());
  EXPECT_EQ(session.error().code(), Code::kConflict);
  const auto reader =
      begin_reader_session(world.repository.get(), world.server.keys().id, parent, test_limit());
  EXPECT_EQ(reader.error().code(), Code::kConflict);
}

TEST(Session, AFailedUploadPoisons) {
  World world;
  auto session =
      must(SessionWriter::begin(world.repository.get(), world.server.keys(), {}, test_limit()));
  const SealedPack pack = session->new_pack(PackKind::kData).finish();
  must(session->upload(pack, test_limit()));
  // The same id again is a broken invariant of ours, and the store refuses it.
  EXPECT_FALSE(session->upload(pack, test_limit()).ok());
  const Status later = session->upload(session->new_pack(PackKind::kData).finish(), test_limit());
  EXPECT_EQ(later.error().code(), Code::kAlreadyExists) << "the first failure's own error";
  EXPECT_EQ(session->commit(world.record(), test_limit()).error().code(), Code::kAlreadyExists);
  EXPECT_FALSE(world.has(layout::session_end(world.server.keys().id, session->id())));
}

TEST(Session, ReadersPinAndLetGo) {
  World world;
  testing::make_three_points(world.server, 2);
  const MachineId machine = world.server.keys().id;
  const PointId point = world.server.points()[0].record.id;
  const SessionId reader =
      must(begin_reader_session(world.repository.get(), machine, point, test_limit()));
  const Bytes begin =
      must(world.store.get(layout::session_begin(machine, reader), kMiB, test_limit()));
  const BeginRecord record = must(decode_begin(begin, world.repository.get().id(), "begin"));
  EXPECT_EQ(record.kind, SessionKind::kReader);
  EXPECT_EQ(record.pins, std::vector<PointId>{point});
  must(end_reader_session(world.repository.get(), machine, reader, test_limit()));
  must(end_reader_session(world.repository.get(), machine, reader, test_limit()));
  const auto found = must(world.repository.get().machines(nullptr, test_limit()))[0];
  EXPECT_EQ(must(world.repository.get().points(found, test_limit())).points.size(), 3u);
}

// A store that fails at random: whatever happens, a point is there whole or not at all, and a
// session that reported success is there.
TEST(Session, FaultsNeverCommitHalfAPoint) {
  size_t committed = 0;
  size_t unknown = 0;  // stored, and the writer was told that it failed
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    auto* memory = new store::MemoryStore;
    testing::TestRepository keys(*memory);
    testing::TestServer server(keys.get(), "srv");
    store::FaultStore store(std::unique_ptr<store::ObjectStore>(memory),
                            {.seed = seed, .fail_before_percent = 15, .fail_after_percent = 10});
    std::optional<Repository> repository;
    for (int i = 0; i < 50 && !repository; ++i) {
      auto opened = Repository::open(store, test_limit());
      if (opened.ok()) repository = std::move(opened).value();
    }
    ASSERT_TRUE(repository.has_value());
    auto session = SessionWriter::begin(*repository, server.keys(), {}, test_limit());
    if (!session.ok()) continue;
    std::vector<PackId> packs;
    for (int i = 0; i < 3; ++i) {
      PackBuilder builder = (*session)->new_pack(PackKind::kData);
      packs.push_back(builder.id());
      ignore_error((*session)->upload(std::move(builder).finish(), test_limit()), "rolled above");
    }
    PointRecord record;
    record.sequence = 1;
    DiskRecord disk;
    disk.size_bytes = 1;
    record.disks = {disk};
    const auto point = (*session)->commit(record, test_limit());
    const MachineId machine = server.keys().id;
    const bool there =
        memory->stat(layout::session_end(machine, (*session)->id()), test_limit()).ok();
    if (point.ok()) {
      ++committed;
      EXPECT_TRUE(there);
    } else if (there) {
      ++unknown;
    }
    for (const PackId& pack : packs) {
      if (!there) break;
      EXPECT_TRUE(memory->stat(layout::pack(machine, pack), test_limit()).ok());
    }
  }
  EXPECT_GT(committed, 5u);
  EXPECT_GT(unknown, 0u);
}

}  // namespace
}  // namespace reclo::repo
