// Backups that are cancelled, fail, are fenced, or die between two steps, and the run after them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backup/backup.h"
#include "backup/test_backup.h"
#include "store/fault_store.h"

namespace reclo::backup::testing {
namespace {

using repo::testing::must;
using ::testing::HasSubstr;

TEST_F(BackupTest, ACancelledBackupGoesOnWithItsPacks) {
  Image disk(folder_.path(), "disk.img", 64 * kMiB);
  disk.write(0, random_bytes(1, 64 * kMiB));
  std::stop_source stop;
  Watcher cancel = when_a_pack_is_stored(40 * kMiB, [&] { stop.request_stop(); });
  const auto cancelled = try_backup({&disk}, cancel, CancelToken(stop.get_token()));
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code(), Code::kCancelled);
  const auto journaled = journal();
  ASSERT_TRUE(journaled);
  uint64_t stored_pages = 0;
  for (const JournaledChunk& chunk : journaled->chunks) stored_pages += chunk.chunk.pages;
  ASSERT_GT(stored_pages, 0u);
  // The disk changes in between: what no longer fits is stored again.
  disk.write(0, random_bytes(2, kMiB));
  const BackupReport resumed = back_up({&disk});
  EXPECT_TRUE(resumed.resumed);
  EXPECT_EQ(new_bytes(resumed), 64 * kMiB - stored_pages * kPageSizeBytes + kMiB);
  EXPECT_FALSE(journal());
  EXPECT_FALSE(back_up({&disk}).resumed);
}

void copy_objects(store::ObjectStore& from, store::MemoryStore& to) {
  const CancelToken cancel = repo::testing::test_limit();
  must(from.list(
      "",
      [&](const store::ObjectInfo& info) -> Status {
        to.overwrite(info.key, must(from.get(info.key, kGiB, cancel)));
        return {};
      },
      cancel));
}

TEST_F(BackupTest, AnUnreliableStoreIsOutlastedRunByRun) {
  Image disk(folder_.path(), "disk.img", 40 * kMiB);
  disk.write(0, random_bytes(1, 40 * kMiB));
  for (int generation = 0; generation < 3; ++generation) {
    store::FaultPlan plan;
    plan.seed = static_cast<uint64_t>(generation) + 3;
    plan.fail_before_percent = 15;
    plan.fail_after_percent = 10;
    plan.truncate_get_percent = 10;
    auto inner = std::make_unique<store::MemoryStore>();
    copy_objects(*memory_, *inner);
    store::MemoryStore* copy = inner.get();
    store::FaultStore faults(std::move(inner), plan);
    auto opened = repo::Repository::open(faults, repo::testing::test_limit());
    while (!opened.ok()) opened = repo::Repository::open(faults, repo::testing::test_limit());
    BackupOptions options = options_;
    options.disks = {disk.path()};
    NullProgress progress;
    int failures = 0;
    Result<BackupReport> report = Error(Code::kInternal, "not yet run");
    for (; failures < 200 && !report.ok(); ++failures)
      report = run_backup(*opened, options, progress, repo::testing::test_limit());
    ASSERT_TRUE(report.ok()) << report.error().message();
    copy_objects(*copy, *memory_);
    expect_restores(report->point, {&disk});
    disk.write(10 * kMiB, random_bytes(plan.seed, 3 * kMiB));
  }
}

TEST_F(BackupTest, AParentBeingRemovedIsNotReferredTo) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point parent = back_up({&disk}).point;
  must(memory_->put_if_absent(repo::layout::tombstone(parent.record.machine, parent.record.id),
                              as_bytes("{}"), repo::testing::test_limit()));
  const BackupReport report = back_up({&disk});
  EXPECT_EQ(report.warnings.size(), 1u);
  EXPECT_EQ(new_bytes(report), 10 * kMiB);
  // Nothing of it lies in the parent's packs.
  must(memory_->list(
      repo::layout::packs_prefix(parent.record.machine, parent.record.id),
      [&](const store::ObjectInfo& info) {
        return memory_->remove(info.key, repo::testing::test_limit());
      },
      repo::testing::test_limit()));
  expect_restores(report.point, {&disk});
  EXPECT_EQ(new_bytes(back_up({&disk})), 0u);
}

TEST_F(BackupTest, AnInterruptedBackupWhoseParentIsRemovedStartsAnew) {
  Image disk(folder_.path(), "disk.img", 48 * kMiB);
  disk.write(0, random_bytes(1, kMiB));
  const repo::Point parent = back_up({&disk}).point;
  disk.write(0, random_bytes(2, 48 * kMiB));
  std::stop_source stop;
  Watcher cancel = when_a_pack_is_stored(40 * kMiB, [&] { stop.request_stop(); });
  ASSERT_FALSE(try_backup({&disk}, cancel, CancelToken(stop.get_token())).ok());
  must(memory_->put_if_absent(repo::layout::tombstone(parent.record.machine, parent.record.id),
                              as_bytes("{}"), repo::testing::test_limit()));
  // The session without a parent is interrupted as well, and that one goes on.
  std::stop_source again;
  Watcher cancel_again = when_a_pack_is_stored(40 * kMiB, [&] { again.request_stop(); });
  ASSERT_FALSE(try_backup({&disk}, cancel_again, CancelToken(again.get_token())).ok());
  EXPECT_FALSE(journal()->header.parent);
  const BackupReport report = back_up({&disk});
  EXPECT_TRUE(report.resumed);
  EXPECT_LT(new_bytes(report), 48 * kMiB);
}

TEST_F(BackupTest, AFencedSessionIsGivenUp) {
  Image disk(folder_.path(), "disk.img", 48 * kMiB);
  disk.write(0, random_bytes(1, 48 * kMiB));
  Watcher fence = when_a_pack_is_stored(40 * kMiB, [&] {
    const auto machines = must(repository_.get().machines(nullptr, repo::testing::test_limit()));
    must(
        memory_->put_if_absent(repo::layout::session_end(machines[0].id, journal()->header.session),
                               repo::fenced_end(), repo::testing::test_limit()));
  });
  const auto fenced = try_backup({&disk}, fence);
  ASSERT_FALSE(fenced.ok());
  EXPECT_EQ(fenced.error().code(), Code::kConflict);
  const BackupReport report = back_up({&disk});
  EXPECT_FALSE(report.resumed);
  EXPECT_EQ(report.point.record.sequence, 1u);
}

TEST_F(BackupTest, ASecondBackupOfTheServerIsRefused) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 12 * kMiB));
  std::optional<Code> second;
  Watcher meanwhile([&](const ProgressUpdate&) {
    if (!second) second = try_backup({&disk}).error().code();
  });
  ASSERT_TRUE(try_backup({&disk}, meanwhile).ok());
  EXPECT_EQ(second, Code::kConflict);
}

// ---- a server that is set back: a reverted virtual machine, or one that came out of its own
// backup

TEST_F(BackupTest, AServerThatWasSetBackFollowsTheNewestPoint) {
  namespace fs = std::filesystem;
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  const std::string kept = os::join_path(folder_.path(), "kept");
  fs::copy(options_.state_directory, kept, fs::copy_options::recursive);
  const Bytes old_content = random_bytes(1, kMiB);
  repo::Point abandoned;
  for (uint64_t generation = 2; generation <= 3; ++generation) {
    disk.write(0, random_bytes(generation, kMiB));
    abandoned = back_up({&disk}).point;
  }
  for (const bool memory_lost : {false, true}) {
    must(os::remove_tree(options_.state_directory));
    fs::copy(kept, options_.state_directory, fs::copy_options::recursive);
    if (memory_lost) must(os::remove_file(server_file("sessions.known")));
    disk.write(0, old_content);
    const BackupReport after = back_up({&disk});
    ASSERT_EQ(after.warnings.size(), 1u);
    EXPECT_THAT(after.warnings[0], HasSubstr("set back"));
    EXPECT_EQ(after.point.record.sequence, abandoned.record.sequence + 1);
    EXPECT_EQ(after.point.record.previous, abandoned.record.id);
    EXPECT_EQ(new_bytes(after), 0u);  // compared with the point that the server went back to
    const auto latest =
        must(repo::find_point(repository_.get(), "latest:files", repo::testing::test_limit()));
    EXPECT_EQ(latest.point.record.id, after.point.record.id);
    EXPECT_TRUE(latest.warnings.empty()) << latest.warnings[0];
    EXPECT_TRUE(back_up({&disk}).warnings.empty());
    abandoned = back_up({&disk}).point;
  }
}

// ---- a crash at each step after the commit is completed by the next run

TEST_F(BackupTest, ACommitThatWasNotNotedDownIsFound) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point first = back_up({&disk}).point;
  const Bytes tags = must(os::read_file(server_file("disk-0.tags"), kGiB));
  const Bytes state = must(os::read_file(server_file("state.json"), kGiB));
  Bytes journal_before;
  Bytes updates;
  disk.write(kMiB, random_bytes(2, 8192));
  Watcher keep([&](const ProgressUpdate& update) {
    if (update.stage != "uploading") return;
    journal_before = must(os::read_file(server_file("session.journal"), kGiB));
    updates = must(os::read_file(server_file("disk-0.tags.new"), kGiB));
  });
  const repo::Point second = must(try_backup({&disk}, keep)).point;
  // Everything as it was at the moment of the commit.
  const auto set_back = [&] {
    must(os::write_file_durably(server_file("disk-0.tags"), tags));
    must(os::write_file_durably(server_file("state.json"), state));
    must(os::write_file_durably(server_file("session.journal"), journal_before));
    must(os::write_file_durably(server_file("disk-0.tags.new"), updates));
  };
  set_back();
  disk.write(2 * kMiB, random_bytes(3, 4096));
  const BackupReport third = back_up({&disk});
  EXPECT_EQ(third.point.record.previous, second.record.id);
  EXPECT_EQ(new_bytes(third), 4096u);
  // Tag updates of another attempt than the committed one describe nothing.
  set_back();
  updates[updates.size() - 1] ^= 1;
  must(os::write_file_durably(server_file("disk-0.tags.new"), updates));
  EXPECT_EQ(back_up({&disk}).warnings.size(), 1u);
}

}  // namespace
}  // namespace reclo::backup::testing
