#include "image/restore.h"

#include <gtest/gtest.h>

#include "image/image_test_util.h"
#include "image/restore_journal.h"
#include "os/random.h"

namespace reclo::image {
namespace {

using testing::must;
using testing::test_limit;
using testing::TestServer;

// Passes calls on and counts them; fails from the n-th write on.
class CountingSink final : public disk::BlockSink {
 public:
  explicit CountingSink(disk::BlockSink& inner) : inner_(inner) {}
  uint64_t size_bytes() const override { return inner_.size_bytes(); }
  bool starts_zeroed() const override { return inner_.starts_zeroed(); }
  Status write_at(uint64_t offset_bytes, ByteSpan data) override {
    if (++writes_ > fail_after_) return Error(Code::kIo, "the disk is broken");
    return inner_.write_at(offset_bytes, data);
  }
  Status write_zeros(uint64_t offset_bytes, uint64_t size_bytes) override {
    return inner_.write_zeros(offset_bytes, size_bytes);
  }
  Status read_at(uint64_t offset_bytes, MutableByteSpan out) override {
    return inner_.read_at(offset_bytes, out);
  }
  Status flush() override { return inner_.flush(); }
  Status finish() override { return inner_.finish(); }
  uint64_t dropped_bytes() const override { return inner_.dropped_bytes(); }
  std::string path() const override { return inner_.path(); }

  std::atomic<uint64_t> writes_ = 0;
  uint64_t fail_after_ = UINT64_MAX;

 private:
  disk::BlockSink& inner_;
};

class RestoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<TestServer>(store_);
    Bytes disk = testing::make_disk(30 * kMiB + 700, 21);
    std::fill_n(disk.begin() + 12 * kMiB, 9 * kMiB, uint8_t{0});
    disks_.push_back(disk);
    server_->back_up(disk);
    testing::change_pages(disk, 4, 30);
    disks_.push_back(disk);
    server_->back_up(disk);
  }
  std::string path(const std::string& name) const { return os::join_path(folder_.path(), name); }
  std::unique_ptr<disk::BlockSink> sink(const std::string& name) {
    return must(disk::open_sink(path(name), disks_[0].size()));
  }
  RestoreJob job(size_t point) const {
    return {server_->points()[point].record.id, 0, server_->points()[point].record.disks[0]};
  }
  Result<RestoreReport> try_restore(size_t point, disk::BlockSink& sink,
                                    const RestoreOptions& options = {}) {
    const auto slots = server_->reader();
    repo::MapReader maps(*slots);
    NullProgress progress;
    return restore_disk(maps, job(point), sink, options, progress, test_limit());
  }
  RestoreReport restore(size_t point, disk::BlockSink& sink, const RestoreOptions& options = {}) {
    auto report = must(try_restore(point, sink, options));
    EXPECT_EQ(report.written_bytes + report.skipped_bytes + report.resumed_bytes,
              report.size_bytes);
    return report;
  }
  Bytes content(const std::string& name) { return must(os::read_file(path(name), kGiB)); }
  void damage(const repo::SlotAddress& at) {
    const std::string key = server_->pack_key(at.pack);
    Bytes pack = must(store_.get(key, kGiB, test_limit()));
    pack[at.offset_bytes + at.stored_bytes / 2] ^= 4;
    store_.overwrite(key, pack);
  }

  os::TempDir folder_ = must(os::TempDir::create("reclo-restore-test-"));
  store::MemoryStore store_;
  std::unique_ptr<TestServer> server_;
  std::vector<Bytes> disks_;
};

TEST_F(RestoreTest, EveryPointComesBackByteForByte) {
  for (size_t point = 0; point < 2; ++point) {
    const std::string name = "out" + std::to_string(point);
    const auto target = sink(name);
    const RestoreReport report = restore(point, *target);
    must(target->finish());
    EXPECT_TRUE(content(name) == disks_[point]);
    EXPECT_GT(report.skipped_bytes, 8 * kMiB);  // holes of a new file
    EXPECT_TRUE(report.damaged.empty());
  }
}

TEST_F(RestoreTest, AnOldTargetIsOverwrittenWhole) {
  must(os::write_file_durably(path("out"), Bytes(disks_[0].size(), 0xab)));
  const auto target = sink("out");
  restore(0, *target);
  EXPECT_TRUE(content("out") == disks_[0]);
}

TEST_F(RestoreTest, UpdateFetchesAndWritesOnlyWhatDiffers) {
  must(os::write_file_durably(path("out"), disks_[0]));
  auto target = sink("out");
  CountingSink counting(*target);
  const RestoreReport full = restore(0, counting, {.update = true});
  EXPECT_EQ(full.written_bytes, 0u);
  const auto leaf_of_patched_chunks = full.fetched_bytes;
  EXPECT_LT(leaf_of_patched_chunks, 16 * kMiB);

  const RestoreReport report = restore(1, counting, {.update = true});
  EXPECT_LE(report.written_bytes, 30 * kPageSizeBytes);
  EXPECT_TRUE(content("out") == disks_[1]);
  const RestoreReport again = restore(1, counting, {.update = true});
  EXPECT_EQ(again.written_bytes, 0u);
}

TEST_F(RestoreTest, UpdateClearsWhatMustBeZero) {
  must(os::write_file_durably(path("out"), Bytes(disks_[0].size(), 0x11)));
  const auto target = sink("out");
  restore(1, *target, {.update = true});
  EXPECT_TRUE(content("out") == disks_[1]);
}

TEST_F(RestoreTest, AnInterruptedRestoreGoesOn) {
  const RestoreOptions options{.threads = 1,
                               .journal_path = path("journal"),
                               .journal_interval = std::chrono::milliseconds(0)};
  {
    const auto target = sink("out");
    CountingSink broken(*target);
    broken.fail_after_ = 40;  // in the second or third segment
    const auto failed = try_restore(1, broken, options);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().message(), "the disk is broken");
  }
  ASSERT_TRUE(os::path_exists(path("journal")));
  const auto target = sink("out");
  EXPECT_FALSE(target->starts_zeroed());
  const RestoreReport report = restore(1, *target, options);
  EXPECT_GE(report.resumed_bytes, kSegmentSizeBytes);
  EXPECT_GT(report.skipped_bytes, kSegmentSizeBytes);  // holes stay unwritten: it was new once
  EXPECT_TRUE(content("out") == disks_[1]);
  EXPECT_FALSE(os::path_exists(path("journal")));
}

TEST_F(RestoreTest, AJournalOfAnotherPointOrTargetIsNotUsed) {
  const RestoreOptions options{.threads = 1,
                               .journal_path = path("journal"),
                               .journal_interval = std::chrono::milliseconds(0)};
  {
    const auto target = sink("out");
    CountingSink broken(*target);
    broken.fail_after_ = 40;  // in the second or third segment
    ASSERT_FALSE(try_restore(1, broken, options).ok());
  }
  const Bytes journal = content("journal");
  {
    const auto target = sink("out");
    EXPECT_EQ(restore(0, *target, options).resumed_bytes, 0u);
  }
  EXPECT_TRUE(content("out") == disks_[0]);
  must(os::write_file_durably(path("journal"), journal));
  must(os::write_file_durably(path("other"), Bytes(disks_[0].size(), 1)));
  const auto target = sink("other");
  EXPECT_EQ(restore(1, *target, options).resumed_bytes, 0u);
  EXPECT_TRUE(content("other") == disks_[1]);
}

TEST_F(RestoreTest, DamageIsReportedAndTheRestIsRestored) {
  const auto slots = server_->reader();
  repo::MapReader maps(*slots);
  const auto leaf = must(maps.find_leaf(repo::MapRoot::of(job(0).disk), 1, test_limit()));
  damage(leaf->chunks[1].at);
  auto target = sink("out");
  const RestoreReport report = restore(0, *target, {.journal_path = path("journal")});
  target.reset();
  ASSERT_FALSE(report.damaged.empty());
  Bytes expected = disks_[0];
  uint64_t damaged_bytes = 0;
  for (const DamagedRange& one : report.damaged) {
    EXPECT_GE(one.range.offset_bytes, kSegmentSizeBytes);
    EXPECT_LT(one.range.end_bytes(), 2 * kSegmentSizeBytes);
    std::fill_n(expected.begin() + static_cast<ptrdiff_t>(one.range.offset_bytes),
                one.range.size_bytes, uint8_t{0});
    damaged_bytes += one.range.size_bytes;
  }
  EXPECT_EQ(damaged_bytes, report.damaged_bytes);
  EXPECT_LE(damaged_bytes, kChunkSizeBytes);
  EXPECT_TRUE(content("out") == expected);
  const Status status = damage_status(report);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kCorruption);
  EXPECT_NE(status.error().message().find(server_->pack_key(leaf->chunks[1].at.pack)),
            std::string::npos);
  // Mended, the same call restores what was missing only.
  damage(leaf->chunks[1].at);
  const auto same = sink("out");
  const RestoreReport mended = restore(0, *same, {.journal_path = path("journal")});
  EXPECT_TRUE(mended.damaged.empty());
  EXPECT_EQ(mended.resumed_bytes, disks_[0].size() - kSegmentSizeBytes);
  EXPECT_TRUE(content("out") == disks_[0]);
}

TEST_F(RestoreTest, ADamagedLeafCostsItsSegment) {
  const auto slots = server_->reader();
  repo::MapReader maps(*slots);
  const auto ref = must(maps.find_leaf_ref(repo::MapRoot::of(job(0).disk), 2, test_limit()));
  damage(ref->at);
  const auto target = sink("out");
  const RestoreReport report = restore(0, *target);
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].range, (disk::Range{2 * kSegmentSizeBytes, kSegmentSizeBytes}));
  Bytes expected = disks_[0];
  std::fill_n(expected.begin() + 2 * kSegmentSizeBytes, kSegmentSizeBytes, uint8_t{0});
  EXPECT_TRUE(content("out") == expected);
}

TEST_F(RestoreTest, ADamagedRootIsAnError) {
  damage(job(0).disk.map_root->at);
  const auto target = sink("out");
  const auto report = try_restore(0, *target);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), Code::kCorruption);
}

TEST_F(RestoreTest, CancelStopsIt) {
  std::stop_source stop;
  stop.request_stop();
  const auto slots = server_->reader();
  repo::MapReader maps(*slots);
  NullProgress progress;
  const auto target = sink("out");
  const auto report =
      restore_disk(maps, job(0), *target, {}, progress, CancelToken(stop.get_token()));
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), Code::kCancelled);
}

TEST(RestoreJournalTest, DamagedJournalsAreNotUsed) {
  const os::TempDir folder = must(os::TempDir::create("reclo-journal-test-"));
  const std::string path = os::join_path(folder.path(), "journal");
  const JournalIdentity identity{os::random_id<PointId>(), 1, 40 * kSegmentSizeBytes, 7};
  auto target = must(disk::open_sink(os::join_path(folder.path(), "target"), kMiB));
  RestoreJournal journal = RestoreJournal::open(path, identity, true);
  journal.finish(3);
  must(journal.save(*target));
  EXPECT_TRUE(RestoreJournal::open(path, identity, false).finished_before(3));
  EXPECT_TRUE(RestoreJournal::open(path, identity, false).target_was_new());
  const Bytes good = must(os::read_file(path, kMiB));
  for (size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= 0x20;
    must(os::write_file_durably(path, bad));
    EXPECT_FALSE(RestoreJournal::open(path, identity, false).finished_before(3)) << at;
  }
  must(os::write_file_durably(path, ByteSpan(good).first(20)));
  EXPECT_EQ(RestoreJournal::open(path, identity, false).finished_before_bytes(), 0u);
}

}  // namespace
}  // namespace reclo::image
