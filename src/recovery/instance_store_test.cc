#include "recovery/instance_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "recovery/repository_exporter.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

InstanceRecord sample() {
  InstanceRecord record;
  record.id = "00112233aabb";
  record.name = "front desk";
  record.server = "server1";
  record.point = "p";
  record.point_time = record.created_at = parse_time("2026-01-02T03:04:05.678Z").value();
  record.state = InstanceState::kAnswering;
  record.memory_bytes = 1 << 30;
  record.cpus = 2;
  record.firmware = Firmware::kUefi;
  record.disk_bus = DiskBus::kNvme;
  record.display = Display::kVnc;
  record.isolated = true;
  record.forwards = {{"127.0.0.1", 8080, 80}};
  record.wait_for = "tcp:8080";
  record.wait_timeout_ms = 1000;
  record.hydration = HydrationState::kRunning;
  record.hydration_limit_bytes_per_second = 7;
  record.source = {{"repository", "/srv/r"}};
  record.run_dir = "/run/x";
  record.machine_process = {123, 456, "boot"};
  record.disks = {{0, 4096, {9, 8, "boot"}, 1, 2, false}, {3, 512, {}, 512, 512, true}};
  record.run = 2;
  record.steps = {{"exports", 1, 10, 20}};
  record.rto_ms = 1234;
  return record;
}

TEST(InstanceRecordTest, SurvivesARoundTrip) {
  EXPECT_EQ(decode_instance(encode_instance(sample())).value(), sample());
}

TEST(InstanceRecordTest, RefusesDamageAndNewerVersions) {
  const std::string text = encode_instance(sample());
  for (size_t length = 0; length + 2 < text.size(); length += 37)
    EXPECT_FALSE(decode_instance(std::string_view(text).substr(0, length)).ok());
  std::string newer = text;
  newer.replace(newer.find("\"version\": 1"), 12, "\"version\": 2");
  EXPECT_EQ(decode_instance(newer).error().code(), Code::kUnsupported);
  std::string strange = text;
  strange.replace(strange.find("answering"), 9, "enigmatic");
  EXPECT_EQ(decode_instance(strange).error().code(), Code::kCorruption);
}

TEST(InstanceRecordTest, GuestBytesInAProblemDoNotBreakTheFile) {
  InstanceRecord record = sample();
  record.problem = "\xff\xc3 end";
  EXPECT_TRUE(decode_instance(encode_instance(record)).ok());
}

TEST(InstanceStoreTest, FindsByIdPrefixAndName) {
  const auto folder = os::TempDir::create("reclo-instances-").value();
  const InstanceStore store(folder.path());
  EXPECT_TRUE(store.list().value().empty());
  InstanceRecord a = sample();
  a.name = "a";
  InstanceRecord b = sample();
  b.name = "b";
  ASSERT_TRUE(store.create(a).ok());
  ASSERT_TRUE(store.create(b).ok());
  InstanceRecord again = sample();
  again.name = "a";
  EXPECT_EQ(store.create(again).error().code(), Code::kConflict);
  EXPECT_EQ(store.list().value().size(), 2u);
  EXPECT_EQ(store.find("a").value(), a.id);
  EXPECT_EQ(store.find(b.id).value(), b.id);
  EXPECT_EQ(store.find(b.id.substr(0, 11)).value(), b.id);
  EXPECT_EQ(store.find("zz").error().code(), Code::kNotFound);
  EXPECT_EQ(store.find("").error().code(), Code::kNotFound);
  EXPECT_EQ(store.load("../../etc").error().code(), Code::kNotFound);
  ASSERT_TRUE(store.remove(a).ok());
  EXPECT_EQ(store.load(a.id).error().code(), Code::kNotFound);
  EXPECT_FALSE(os::path_exists(store.paths(a).folder));
}

TEST(InstanceStoreTest, LockExcludes) {
  const auto folder = os::TempDir::create("reclo-instances-").value();
  const InstanceStore store(folder.path());
  InstanceRecord record = sample();
  ASSERT_TRUE(store.create(record).ok());
  const auto held = store.lock(record.id, std::chrono::milliseconds(0), CancelToken());
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(store.lock(record.id, std::chrono::milliseconds(60), CancelToken()).error().code(),
            Code::kConflict);
  EXPECT_EQ(store.lock("00ff00ff00ff", std::chrono::milliseconds(0), CancelToken()).error().code(),
            Code::kNotFound);
}

TEST(InstanceStoreTest, LongStateFoldersGetShortSockets) {
  const auto folder = os::TempDir::create("reclo-instances-").value();
  const InstanceStore store(folder.path() + "/" + std::string(90, 'd'));
  InstanceRecord record = sample();
  ASSERT_TRUE(store.create(record).ok());
  const InstancePaths paths = store.paths(record);
  EXPECT_NE(paths.run_dir, paths.folder);
  EXPECT_LE(paths.nbd_socket(63).size(), kSocketPathSizeMax);
  struct stat info{};
  ASSERT_EQ(::stat(paths.run_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_TRUE(os::remove_tree(paths.run_dir).ok());
  ASSERT_TRUE(store.ensure_run_dir(record).ok());
  ASSERT_TRUE(store.remove(record).ok());
  EXPECT_FALSE(os::path_exists(paths.run_dir));
}

TEST(RepositoryExporterTest, SourceSurvivesARoundTrip) {
  store::StoreOptions options;
  options.url = "s3://bucket/p";
  options.s3_endpoint = "http://127.0.0.1:9";
  options.s3_region = "r";
  options.s3_path_style = false;
  options.download_limit_bytes_per_second = 99;
  MachineId machine;
  machine.mutable_bytes()[0] = 1;
  const auto source = source_of(options, machine, PointId());
  const store::StoreOptions back = store_of(source).value();
  EXPECT_EQ(back.url, options.url);
  EXPECT_EQ(back.s3_endpoint, options.s3_endpoint);
  EXPECT_EQ(back.s3_region, options.s3_region);
  EXPECT_EQ(back.s3_path_style, false);
  EXPECT_EQ(back.s3_sha256_checksums, std::nullopt);
  EXPECT_EQ(back.download_limit_bytes_per_second, 99u);
  EXPECT_TRUE(RepositoryExporter::open(source, crypto::SecretKey::random()).ok());
  EXPECT_EQ(RepositoryExporter::open({}, crypto::SecretKey::random()).error().code(),
            Code::kCorruption);
  options.url = "relative/folder";
  EXPECT_EQ(source_of(options, machine, PointId()).at("repository").front(), '/');
}

}  // namespace
}  // namespace reclo::recovery
