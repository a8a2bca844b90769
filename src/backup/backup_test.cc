// Backups end to end in one process: changes, shapes of disks, and lost or damaged memories.
#include "backup/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "backup/test_backup.h"
#include "repo/pack.h"

namespace reclo::backup::testing {
namespace {

using repo::testing::must;
using ::testing::HasSubstr;

TEST_F(BackupTest, AFullBackupThenNothingNew) {
  Image disk(folder_.path(), "disk.img", 21 * kMiB + 1000);
  disk.write(0, random_bytes(1, 3 * kMiB));
  disk.write(13 * kMiB + 512, random_bytes(2, kMiB));
  disk.write(21 * kMiB, random_bytes(3, 1000));
  const BackupReport full = back_up({&disk});
  EXPECT_EQ(full.point.record.kind, repo::PointKind::kFull);
  EXPECT_EQ(full.point.record.sequence, 1u);
  EXPECT_GE(new_bytes(full), 4 * kMiB);

  const BackupReport second = back_up({&disk});
  EXPECT_EQ(second.point.record.kind, repo::PointKind::kIncremental);
  EXPECT_EQ(second.point.record.sequence, 2u);
  EXPECT_EQ(second.point.record.previous, full.point.record.id);
  EXPECT_EQ(second.point.record.previous_digest, full.point.digest);
  EXPECT_EQ(second.point.record.statistics.uploaded_bytes, 0u);
  EXPECT_EQ(second.point.record.disks[0].map_root, full.point.record.disks[0].map_root);
  EXPECT_TRUE(second.warnings.empty());

  options_.full = true;
  const BackupReport third = back_up({&disk});
  EXPECT_EQ(third.point.record.kind, repo::PointKind::kFull);
  EXPECT_EQ(new_bytes(third), 0u);
}

TEST_F(BackupTest, OnlyChangedPagesAreStored) {
  Image disk(folder_.path(), "disk.img", 16 * kMiB);
  disk.write(0, random_bytes(1, 16 * kMiB));
  back_up({&disk});
  for (uint64_t page = 5; page < 4096; page += 200)
    disk.write(page * kPageSizeBytes + 100, random_bytes(page, 64));
  EXPECT_EQ(new_bytes(back_up({&disk})), divide_up(4096 - 5, 200) * kPageSizeBytes);
}

// ---- a disk whose every page tells when and where it was written

uint64_t checksum(ByteSpan data) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 8 <= data.size(); i += 8)
    sum = mix(sum ^ load_le<uint64_t>(data.data() + i));
  return sum;
}

constexpr size_t kSummedBytes = kPageSizeBytes - 8;

Bytes stamped_page(uint32_t generation, uint64_t page) {
  Bytes out = random_bytes(generation * 1'000'003u + page, kPageSizeBytes);
  std::fill(out.begin() + 1024, out.end() - 8, uint8_t{0x5a});
  store_le<uint32_t>(out.data(), generation);
  store_le<uint64_t>(out.data() + 4, page);
  store_le<uint64_t>(out.data() + kSummedBytes, checksum(ByteSpan(out).first(kSummedBytes)));
  return out;
}

// What a page holds, for messages.
std::string describe(ByteSpan page) {
  if (is_all_zero(page)) return "zeros";
  if (load_le<uint64_t>(page.data() + kSummedBytes) != checksum(page.first(kSummedBytes)))
    return "a torn page";
  return "page " + std::to_string(load_le<uint64_t>(page.data() + 4)) + " of generation " +
         std::to_string(load_le<uint32_t>(page.data()));
}

TEST_F(BackupTest, TwelveGenerationsOfRandomWritesReadBack) {
  constexpr uint64_t kPages = 3 * kPagesPerSegment;
  Image disk(folder_.path(), "disk.img", kPages * kPageSizeBytes);
  std::mt19937_64 random(7);
  std::vector<uint32_t> model(kPages, 0);  // the generation of each page; 0: zeros
  std::vector<std::vector<uint32_t>> models;
  std::vector<repo::Point> points;
  for (uint32_t generation = 1; generation <= 12; ++generation) {
    const auto stamp = [&](uint64_t first, uint64_t count, uint32_t with) {
      Bytes data;
      for (uint64_t p = first; p < std::min(first + count, kPages); ++p) {
        const Bytes page = with == 0 ? Bytes(kPageSizeBytes, 0) : stamped_page(with, p);
        data.insert(data.end(), page.begin(), page.end());
        model[p] = with;
      }
      disk.write(first * kPageSizeBytes, data);
    };
    if (generation == 1) stamp(300, 2000, generation);
    for (int i = 0; i < 60; ++i) stamp(random() % kPages, 1 + random() % 3, generation);
    stamp(random() % kPages, random() % 400, generation);
    stamp(random() % kPages, random() % 200, 0);
    if (generation == 6) must(os::remove_file(server_file("disk-0.tags")));
    options_.compression_level = generation % 3 == 0 ? -3 : 0;
    points.push_back(must(try_backup({&disk})).point);
    models.push_back(model);
  }
  for (size_t g = 0; g < points.size(); ++g) {
    const Bytes restored = restore(points[g], 0);
    for (uint64_t p = 0; p < kPages; ++p) {
      const ByteSpan page = ByteSpan(restored).subspan(p * kPageSizeBytes, kPageSizeBytes);
      const uint32_t expected = models[g][p];
      const bool right =
          expected == 0 ? is_all_zero(page) : to_bytes(page) == stamped_page(expected, p);
      ASSERT_TRUE(right) << "point " << g + 1 << ", page " << p << " of generation " << expected
                         << ", holds " << describe(page);
    }
  }
}

// ---- disks that change their shape

TEST_F(BackupTest, ADiskThatShrinksAndGrowsAgainIsReadAnew) {
  Image disk(folder_.path(), "disk.img", 18 * kMiB);
  disk.write(0, random_bytes(1, 18 * kMiB));
  const Bytes tail = random_bytes(2, 5 * kMiB);
  disk.write(12 * kMiB, tail);
  const repo::Point first = back_up({&disk}).point;
  const Bytes before = disk.content();
  disk.resize(9 * kMiB + 512);
  back_up({&disk});
  disk.resize(18 * kMiB);
  back_up({&disk});
  disk.write(12 * kMiB, tail);  // the same old content at the same place
  back_up({&disk});
  // Past 1 GiB the map gets a level more.
  ASSERT_EQ(::truncate(disk.path().c_str(), 1100 * kMiB), 0);
  must(os::write_at(must(os::open_file(disk.path(), os::OpenMode::kReadWrite)), 1090 * kMiB,
                    random_bytes(4, kMiB)));
  EXPECT_EQ(new_bytes(must(try_backup({&disk}))), kMiB);
  EXPECT_TRUE(restore(first, 0) == before);
}

TEST_F(BackupTest, TwoDisksOneRenamed) {
  Image boot(folder_.path(), "boot.img", 9 * kMiB);
  Image data(folder_.path(), "data.img", 5 * kMiB);
  boot.write(kMiB, random_bytes(1, 3 * kMiB));
  data.write(0, random_bytes(2, 4 * kMiB));
  back_up({&boot, &data});
  data.write(kMiB, random_bytes(3, 4096));
  data.rename("moved.img");
  EXPECT_EQ(new_bytes(back_up({&boot, &data})), 4096u);
  // In another order they are found by their names.
  const BackupReport swapped = back_up({&data, &boot});
  // (Page tags go by position: without them the patched window is stored whole.)
  EXPECT_LE(new_bytes(swapped), kChunkSizeBytes);
  // One disk less, then both again.
  back_up({&boot});
  back_up({&boot, &data});
}

TEST_F(BackupTest, ContentThatMovedIsFound) {
  Image disk(folder_.path(), "disk.img", 24 * kMiB);
  const Bytes content = random_bytes(1, 6 * kMiB);
  disk.write(0, content);
  back_up({&disk});
  disk.write(16 * kMiB, content);
  disk.write(0, random_bytes(2, kMiB));
  EXPECT_EQ(new_bytes(back_up({&disk})), kMiB);
  // Twice the same new content in one backup is stored once.
  const Bytes twin = random_bytes(3, kMiB);
  disk.write(8 * kMiB, twin);
  disk.write(12 * kMiB, twin);
  EXPECT_EQ(new_bytes(back_up({&disk})), kMiB);
}

TEST_F(BackupTest, AnEmptyOrMissingDiskIsRefused) {
  Image empty(folder_.path(), "empty.img", 0);
  EXPECT_EQ(try_backup({&empty}).error().code(), Code::kInvalidArgument);
  ASSERT_EQ(::unlink(empty.path().c_str()), 0);
  const auto missing = try_backup({&empty});
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("empty.img"));
}

TEST_F(BackupTest, ADiskThatShrinksMeanwhileIsAnError) {
  Image disk(folder_.path(), "disk.img", 32 * kMiB);
  disk.write(0, random_bytes(1, 32 * kMiB));
  Watcher shrink([&](const ProgressUpdate& update) {
    if (update.done_bytes == kSegmentSizeBytes) disk.resize(25 * kMiB);
  });
  options_.workers = 1;
  const auto report = try_backup({&disk}, shrink);
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message(), HasSubstr("disk.img"));
  back_up({&disk});
}

// ---- lost memories cost upload, never correctness

TEST_F(BackupTest, LostMemoriesCostNoCorrectness) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  uint64_t generation = 10;
  for (const std::string lost : {"disk-0.tags", "state.json", "chunks.index", "maps"}) {
    const BackupReport unchanged = back_up({&disk});
    must(os::remove_tree(server_file(lost)));
    const BackupReport after = back_up({&disk});
    EXPECT_EQ(new_bytes(after), 0u) << lost;
    EXPECT_EQ(after.point.record.sequence, unchanged.point.record.sequence + 1) << lost;
    EXPECT_EQ(after.warnings.size(), lost == "disk-0.tags" ? 1u : 0u) << lost;
    ++generation;
    disk.write(generation * 40 * kPageSizeBytes, random_bytes(generation, kPageSizeBytes));
    must(os::remove_tree(server_file(lost)));
    back_up({&disk});
  }
}

TEST_F(BackupTest, DamagedMemoriesCostNoCorrectness) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  for (const std::string damaged : {"state.json", "chunks.index", "session.journal"}) {
    must(os::write_file_durably(server_file(damaged), as_bytes("garbage")));
    disk.write(damaged.size() * 100 * kPageSizeBytes, random_bytes(damaged.size(), 8192));
    EXPECT_EQ(new_bytes(back_up({&disk})), 8192u) << damaged;
  }
}

// Zeroed tags say "a hole was here": a page that becomes one must not keep its old content for it.
TEST_F(BackupTest, ZeroedPageTagsHideNoChange) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 12 * kMiB));
  back_up({&disk});
  const std::string path = server_file("disk-0.tags");
  Bytes tags = must(os::read_file(path, kGiB));
  std::fill(tags.begin() + 4096, tags.end(), uint8_t{0});
  must(os::write_file_durably(path, tags));
  disk.write(4 * kMiB, Bytes(4 * kMiB, 0));
  disk.write(9 * kMiB, Bytes(64 * kKiB, 0));
  const BackupReport report = back_up({&disk});
  EXPECT_THAT(report.warnings, ::testing::ElementsAre(::testing::HasSubstr("is damaged")));
  expect_restores(report.point, {&disk});
  disk.write(0, random_bytes(3, kPageSizeBytes));
  EXPECT_EQ(new_bytes(back_up({&disk})), kPageSizeBytes);  // all is known again
}

TEST_F(BackupTest, ADamagedCachedMapIsFetchedAgain) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  const auto names = must(os::list_directory(server_file("maps")));
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    const std::string path = os::join_path(server_file("maps"), name);
    const Bytes whole = must(os::read_file(path, kGiB));
    for (const size_t at :
         {size_t{0}, size_t{9}, size_t{17}, whole.size() / 2, whole.size() - 70}) {
      Bytes flipped = whole;
      for (size_t i = 0; i < 64 && at + i < flipped.size(); ++i) flipped[at + i] ^= 0x11;
      must(os::write_file_durably(path, flipped));
      disk.write(at % 2000 * kPageSizeBytes, random_bytes(at, kPageSizeBytes));
      const BackupReport report = back_up({&disk});
      EXPECT_TRUE(report.warnings.empty());
      EXPECT_EQ(new_bytes(report), kPageSizeBytes);
    }
  }
}

TEST_F(BackupTest, ADamagedMapInTheStoreCostsAFullUpload) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point point = back_up({&disk}).point;
  const std::string key =
      repo::layout::pack(point.record.machine, point.record.disks[0].map_root->at.pack);
  Bytes pack = must(memory_->get(key, kPackSizeBytesMax, repo::testing::test_limit()));
  for (size_t i = repo::kPackHeaderSize; i < pack.size(); i += 100) pack[i] ^= 1;
  memory_->overwrite(key, pack);
  must(os::remove_tree(server_file("maps")));
  disk.write(0, random_bytes(2, kPageSizeBytes));
  const BackupReport report = back_up({&disk});
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_THAT(report.warnings[0], HasSubstr("damaged"));
  EXPECT_EQ(report.point.record.sequence, 2u);
  EXPECT_EQ(report.point.record.kind, repo::PointKind::kFull);
  EXPECT_TRUE(back_up({&disk}).warnings.empty());
}

}  // namespace
}  // namespace reclo::backup::testing
