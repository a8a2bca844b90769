#include "repo/repository.h"

#include <gtest/gtest.h>

#include "os/random.h"
#include "repo/test_repository.h"

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
    testing::make_three_points(beta, 2);
  }
  MachinePoints points(const testing::TestServer& server) {
    const MachineRecord machine =
        must(load_machine(store, repository.get().id(), server.keys().id, test_limit()));
    return must(repository.get().points(machine, test_limit()));
  }
  std::string end_key(const testing::TestServer& server, size_t point) const {
    return layout::session_end(server.keys().id, server.points()[point].record.id);
  }
  Result<FoundPoint> find(std::string_view text) {
    return find_point(repository.get(), text, test_limit());
  }
};

TEST(Repository, InitTwiceIsRefusedAndChangesNothing) {
  store::MemoryStore store;
  testing::TestRepository first(store);
  const auto second = init_repository(store, "words", {}, test_limit());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), Code::kAlreadyExists);
  EXPECT_TRUE(first.get().unlock(first.code(), test_limit()).ok());
}

TEST(Repository, EmptyStoreAndEmptyPassphraseAreClearErrors) {
  store::MemoryStore store;
  const auto opened = Repository::open(store, test_limit());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kNotFound);
  EXPECT_NE(opened.error().message().find("reclo init"), std::string::npos);
  EXPECT_EQ(init_repository(store, "", {}, test_limit()).error().code(), Code::kInvalidArgument);
}

TEST(Repository, PointsAreListedInOrderWithTheirChain) {
  World world;
  const MachinePoints points = world.points(world.alpha);
  ASSERT_EQ(points.points.size(), 3u);
  EXPECT_TRUE(points.warnings.empty());
  EXPECT_TRUE(points.open_sessions.empty());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(points.points[i].record.sequence, i + 1);
    EXPECT_EQ(points.points[i].record.id, world.alpha.points()[i].record.id);
    EXPECT_EQ(points.points[i].digest, world.alpha.points()[i].digest);
  }
}

TEST(Repository, FindsPointsByIdPrefixAndName) {
  World world;
  const PointId id = world.alpha.points()[1].record.id;
  EXPECT_EQ(must(world.find(id.hex())).point.record.id, id);
  EXPECT_EQ(must(world.find(id.hex().substr(0, 16))).machine.name, "alpha");
  EXPECT_EQ(must(world.find("latest:alpha")).point.record.id, world.alpha.points()[2].record.id);
  EXPECT_EQ(must(world.find("latest:beta")).point.record.id, world.beta.points()[2].record.id);
  EXPECT_EQ(must(world.find("latest")).machine.name, "beta");
  EXPECT_EQ(world.find("latest:gamma").error().code(), Code::kNotFound);
  EXPECT_EQ(world.find(os::random_id<PointId>().hex()).error().code(), Code::kNotFound);
  for (const char* nonsense :
       {"", "abc", "nonsense", "LATEST", "0123456789abcdef0123456789abcdef0"})
    EXPECT_EQ(world.find(nonsense).error().code(), Code::kInvalidArgument) << nonsense;
}

TEST(Repository, AnAmbiguousPrefixNamesTheCandidates) {
  World world;
  // Sessions that share their first digits, with records of their own.
  std::vector<std::string> ids;
  for (uint8_t last : {uint8_t{1}, uint8_t{2}}) {
    PointRecord record = world.alpha.points()[2].record;
    record.id = SessionId::from_bytes(Bytes(16, 0xab));
    record.id.mutable_bytes()[15] = last;
    record.sequence = 3u + last;
    ids.push_back(record.id.hex());
    must(world.store.put_if_absent(
        layout::session_end(world.alpha.keys().id, record.id),
        encode_point(record, world.repository.get().id(), world.alpha.keys().signing),
        test_limit()));
  }
  const auto found = world.find("abab");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code(), Code::kInvalidArgument);
  EXPECT_NE(found.error().message().find("abababab"), std::string::npos);
  EXPECT_EQ(must(world.find(ids[1])).point.record.id.hex(), ids[1]);
}

TEST(Repository, AMissingRecordIsNoticed) {
  for (const size_t missing : {size_t{0}, size_t{1}}) {
    World world;
    must(world.store.remove(world.end_key(world.alpha, missing), test_limit()));
    const MachinePoints points = world.points(world.alpha);
    EXPECT_EQ(points.points.size(), 2u);
    ASSERT_EQ(points.warnings.size(), 1u);
    EXPECT_NE(points.warnings[0].find("missing"), std::string::npos);
    EXPECT_EQ(points.open_sessions.size(), 1u);
    EXPECT_TRUE(world.points(world.beta).warnings.empty());
  }
}

TEST(Repository, AnExchangedRecordIsNoticed) {
  World world;
  // The server's own key signs another history: what somebody who took the server over could do.
  PointRecord record = world.alpha.points()[1].record;
  record.server = "other";
  world.store.overwrite(
      world.end_key(world.alpha, 1),
      encode_point(record, world.repository.get().id(), world.alpha.keys().signing));
  const MachinePoints points = world.points(world.alpha);
  EXPECT_EQ(points.points.size(), 3u);
  ASSERT_EQ(points.warnings.size(), 1u);
  EXPECT_NE(points.warnings[0].find("exchanged"), std::string::npos);
}

TEST(Repository, DamagedAndSwappedRecordsBecomeWarnings) {
  World world;
  const std::string first = world.end_key(world.alpha, 0);
  const std::string last = world.end_key(world.alpha, 2);
  const Bytes first_object = must(world.store.get(first, kMiB, test_limit()));
  const Bytes last_object = must(world.store.get(last, kMiB, test_limit()));
  world.store.overwrite(last, first_object);
  MachinePoints points = world.points(world.alpha);
  EXPECT_EQ(points.points.size(), 2u);
  ASSERT_FALSE(points.warnings.empty());
  EXPECT_NE(points.warnings[0].find(last), std::string::npos);
  // "latest" is an older point now, and says so.
  const FoundPoint found = must(world.find("latest:alpha"));
  EXPECT_EQ(found.point.record.sequence, 2u);
  EXPECT_FALSE(found.warnings.empty());
  world.store.overwrite(last, to_bytes("not a record"));
  EXPECT_EQ(world.points(world.alpha).points.size(), 2u);
  world.store.overwrite(last, last_object);
  EXPECT_TRUE(world.points(world.alpha).warnings.empty());
  // A record of another machine, signed by that one.
  world.store.overwrite(last,
                        must(world.store.get(world.end_key(world.beta, 2), kMiB, test_limit())));
  points = world.points(world.alpha);
  EXPECT_EQ(points.points.size(), 2u);
  EXPECT_FALSE(points.warnings.empty());
}

TEST(Machine, RecordsAndKeysComeBack) {
  World world;
  const RepositoryId id = world.repository.get().id();
  const auto machines = must(world.repository.get().machines(nullptr, test_limit()));
  ASSERT_EQ(machines.size(), 2u);
  for (const MachineRecord& machine : machines) {
    const testing::TestServer& server = machine.name == "alpha" ? world.alpha : world.beta;
    EXPECT_EQ(machine.signing_key, server.keys().signing.public_key);
    const auto map_key = must(world.repository.get().map_key(machine, world.repository.box()));
    EXPECT_EQ(to_hex(map_key.bytes()), to_hex(server.keys().map_key.bytes()));
    EXPECT_FALSE(world.repository.get().map_key(machine, crypto::make_box_key_pair()).ok());
  }
  const Bytes text = encode_machine_keys(world.alpha.keys(), id);
  const MachineKeys keys = must(decode_machine_keys(text, id));
  EXPECT_EQ(keys.id, world.alpha.keys().id);
  EXPECT_EQ(keys.name, "alpha");
  EXPECT_EQ(to_hex(keys.signing.seed.bytes()), to_hex(world.alpha.keys().signing.seed.bytes()));
  EXPECT_FALSE(decode_machine_keys(text, os::random_id<RepositoryId>()).ok());
  EXPECT_FALSE(decode_machine_keys(as_bytes("{}"), id).ok());
}

TEST(Machine, ASwappedRecordIsAProblemAndHidesNoOther) {
  World world;
  const std::string alpha = layout::machine_record(world.alpha.keys().id);
  const std::string beta = layout::machine_record(world.beta.keys().id);
  world.store.overwrite(alpha, must(world.store.get(beta, kMiB, test_limit())));
  std::vector<Error> problems;
  const auto machines = must(world.repository.get().machines(&problems, test_limit()));
  ASSERT_EQ(machines.size(), 1u);
  EXPECT_EQ(machines[0].name, "beta");
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].message().find("swapped"), std::string::npos);
}

TEST(Machine, NamesHaveBounds) {
  for (const char* good : {"a", "praxis-süd", "mail.example.org", "two words"})
    EXPECT_TRUE(check_server_name(good).ok()) << good;
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."),
                                 std::string("a/b"), std::string("a\nb"), std::string(101, 'x')})
    EXPECT_FALSE(check_server_name(bad).ok()) << bad;
}

TEST(Layout, PackKeysComeBack) {
  const MachineId machine = os::random_id<MachineId>();
  const PackId pack{os::random_id<SessionId>(), 0x0100002a};
  const std::string key = layout::pack(machine, pack);
  EXPECT_EQ(must(layout::parse_pack_key(machine, key)), pack);
  EXPECT_TRUE(key.ends_with("/0100002a"));
  EXPECT_FALSE(layout::parse_pack_key(os::random_id<MachineId>(), key).ok());
  for (const std::string& bad : {key + "0", key.substr(0, key.size() - 1), key + ".tmp",
                                 layout::all_packs_prefix(machine) + "x"})
    EXPECT_FALSE(layout::parse_pack_key(machine, bad).ok()) << bad;
}

}  // namespace
}  // namespace reclo::repo
