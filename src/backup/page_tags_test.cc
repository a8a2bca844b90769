#include "backup/page_tags.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "os/random.h"

namespace reclo::backup {
namespace {

SegmentTags tags_of(uint8_t value) {
  SegmentTags tags;
  for (size_t p = 0; p < tags.size(); ++p) {
    tags[p].mutable_bytes()[0] = value;
    tags[p].mutable_bytes()[1] = static_cast<uint8_t>(p);
  }
  return tags;
}

class PageTags : public ::testing::Test {
 protected:
  PageTags() : folder_(os::TempDir::create("reclo-tags-").value()) {}
  std::string tags_path() const { return os::join_path(folder_.path(), "disk-0.tags"); }
  std::string updates_path() const { return os::join_path(folder_.path(), "disk-0.tags.new"); }

  void write_updates(bool from_scratch, const std::vector<std::pair<uint64_t, uint8_t>>& records) {
    auto updates = TagUpdates::create(updates_path(), from_scratch);
    ASSERT_TRUE(updates.ok());
    for (const auto& [segment, value] : records)
      ASSERT_TRUE(updates->append(segment, tags_of(value)).ok());
    ASSERT_TRUE(updates->finish(root_).ok());
  }
  Status apply(const PointId& point) {
    auto file = PageTagFile::open(tags_path());
    if (!file.ok()) return file.error();
    return file->apply(updates_path(), point, root_);
  }
  SegmentTags read(uint64_t segment) const {
    const auto file = PageTagFile::open(tags_path());
    SegmentTags tags = tags_of(99);
    EXPECT_TRUE(file.ok() && file->read(segment, tags).value());
    return tags;
  }
  bool knows(uint64_t segment) const {
    SegmentTags tags;
    return PageTagFile::open(tags_path()).value().read(segment, tags).value();
  }
  void overwrite(const std::string& path, size_t offset, size_t size, uint8_t value) const {
    Bytes content = os::read_file(path, kGiB).value();
    ASSERT_LE(offset + size, content.size());
    std::fill_n(content.begin() + static_cast<ptrdiff_t>(offset), size, value);
    ASSERT_TRUE(os::write_file_durably(path, content).ok());
  }
  std::optional<PointId> described() const {
    return PageTagFile::open(tags_path()).value().described_point();
  }
  void truncate_updates(size_t cut_bytes) {
    Bytes content = os::read_file(updates_path(), kGiB).value();
    content.resize(content.size() - cut_bytes);
    ASSERT_TRUE(os::write_file_durably(updates_path(), content).ok());
  }

  const os::TempDir folder_;
  const ChunkId root_ = os::random_id<ChunkId>();
  const PointId first_ = os::random_id<PointId>();
  const PointId second_ = os::random_id<PointId>();
};

TEST_F(PageTags, ANewFileDescribesNothing) {
  EXPECT_EQ(described(), std::nullopt);
  EXPECT_EQ(read(7), SegmentTags{});
}

TEST_F(PageTags, UpdatesAreAppliedAndStamped) {
  write_updates(true, {{0, 1}, {5, 2}});
  ASSERT_TRUE(apply(first_).ok());
  EXPECT_EQ(described(), first_);
  EXPECT_EQ(read(0), tags_of(1));
  EXPECT_EQ(read(5), tags_of(2));
  EXPECT_EQ(read(3), SegmentTags{});
  EXPECT_EQ(read(1000), SegmentTags{});
  write_updates(false, {{5, 3}});
  ASSERT_TRUE(apply(second_).ok());
  EXPECT_EQ(described(), second_);
  EXPECT_EQ(read(0), tags_of(1));
  EXPECT_EQ(read(5), tags_of(3));
}

TEST_F(PageTags, ApplyingTwiceIsTheSame) {
  write_updates(false, {{2, 4}});
  ASSERT_TRUE(apply(first_).ok());
  ASSERT_TRUE(apply(first_).ok());
  EXPECT_EQ(described(), first_);
  EXPECT_EQ(read(2), tags_of(4));
}

TEST_F(PageTags, FromScratchForgetsWhatNoRecordNames) {
  write_updates(true, {{0, 1}, {5, 2}});
  ASSERT_TRUE(apply(first_).ok());
  write_updates(true, {{0, 6}});
  ASSERT_TRUE(apply(second_).ok());
  EXPECT_EQ(read(0), tags_of(6));
  EXPECT_EQ(read(5), SegmentTags{});
}

TEST_F(PageTags, CutOffUpdatesAreRefusedAndChangeNothing) {
  write_updates(true, {{0, 1}});
  ASSERT_TRUE(apply(first_).ok());
  for (const size_t cut_bytes :
       {size_t{1}, size_t{24}, size_t{100}, 8 + sizeof(SegmentTags) + 16}) {
    write_updates(false, {{0, 2}, {1, 3}});
    truncate_updates(cut_bytes);
    const Status applied = apply(second_);
    ASSERT_FALSE(applied.ok()) << cut_bytes;
    EXPECT_EQ(applied.error().code(), Code::kCorruption);
    EXPECT_EQ(described(), first_);
    EXPECT_EQ(read(0), tags_of(1));
  }
  ASSERT_TRUE(os::write_file_durably(updates_path(), {}).ok());
  EXPECT_EQ(apply(second_).error().code(), Code::kCorruption);
}

TEST_F(PageTags, UpdatesOfAnotherAttemptAreRefused) {
  write_updates(true, {{0, 1}});
  ASSERT_TRUE(apply(first_).ok());
  write_updates(false, {{0, 2}});
  auto file = PageTagFile::open(tags_path());
  ASSERT_TRUE(file.ok());
  const Status applied = file->apply(updates_path(), second_, os::random_id<ChunkId>());
  EXPECT_EQ(applied.error().code(), Code::kCorruption);
  EXPECT_EQ(described(), first_);
}

// What stops in the middle, as a power cut would (tests/crash/kill_test.py does that), leaves no
// stamp; applying again heals.
TEST_F(PageTags, StoppingInTheMiddleLeavesNoStamp) {
  write_updates(true, {{0, 1}});
  ASSERT_TRUE(apply(first_).ok());
  write_updates(false, {{0, 2}, {~uint64_t{0}, 2}});
  EXPECT_EQ(apply(second_).error().code(), Code::kCorruption);
  EXPECT_EQ(described(), std::nullopt);
  write_updates(false, {{0, 2}, {1, 2}});
  ASSERT_TRUE(apply(second_).ok());
  EXPECT_EQ(described(), second_);
  EXPECT_EQ(read(0), tags_of(2));
}

// A disk that loses writes, a file system check, a copy that leaves holes: whatever the tags
// became, only the segments that were hit are forgotten. Zeros are the worst, for they mean "a
// hole".
TEST_F(PageTags, DamageIsNoticedSegmentBySegment) {
  write_updates(true, {{0, 1}, {1, 2}, {2, 3}});
  ASSERT_TRUE(apply(first_).ok());
  constexpr size_t kHeader = 4096;
  overwrite(tags_path(), kHeader + sizeof(SegmentTags), sizeof(SegmentTags), 0);
  EXPECT_EQ(described(), first_);
  EXPECT_TRUE(knows(0));
  EXPECT_FALSE(knows(1));
  EXPECT_TRUE(knows(2));
  EXPECT_TRUE(knows(3));  // never recorded: holes
  overwrite(tags_path(), kHeader + 3 * sizeof(SegmentTags) - 1, 1, 0x5a);
  EXPECT_FALSE(knows(2));
  Bytes content = os::read_file(tags_path(), kGiB).value();
  content.resize(kHeader + 100);
  ASSERT_TRUE(os::write_file_durably(tags_path(), content).ok());
  EXPECT_EQ(described(), first_);
  EXPECT_FALSE(knows(0));
  write_updates(false, {{0, 4}, {1, 4}});
  ASSERT_TRUE(apply(second_).ok());
  EXPECT_EQ(read(0), tags_of(4));
  EXPECT_EQ(read(1), tags_of(4));
  EXPECT_FALSE(knows(2));
}

// A segment that was swapped with another's, sums and all, is not that segment's.
TEST_F(PageTags, AnotherSegmentsTagsAreDamage) {
  write_updates(true, {{0, 1}, {1, 2}});
  ASSERT_TRUE(apply(first_).ok());
  Bytes content = os::read_file(tags_path(), kGiB).value();
  std::swap_ranges(content.begin() + 4096, content.begin() + 4096 + sizeof(SegmentTags),
                   content.begin() + 4096 + sizeof(SegmentTags));
  ASSERT_TRUE(os::write_file_durably(tags_path(), content).ok());
  EXPECT_FALSE(knows(0));
  EXPECT_FALSE(knows(1));
}

TEST_F(PageTags, SumsThatAreNotTheStampsDescribeNothing) {
  write_updates(true, {{0, 1}, {1, 2}});
  const std::string sums = tags_path() + ".sums";
  ASSERT_TRUE(apply(first_).ok());
  overwrite(sums, 16, 16, 0);
  EXPECT_EQ(described(), std::nullopt);
  ASSERT_TRUE(apply(first_).ok());
  EXPECT_EQ(described(), first_);
  ASSERT_TRUE(os::remove_file(sums).ok());
  EXPECT_EQ(described(), std::nullopt);
}

TEST_F(PageTags, DamagedUpdatesAreRefused) {
  write_updates(true, {{0, 1}, {1, 2}});
  overwrite(updates_path(), 8 + 8 + 500, 64, 0);
  EXPECT_EQ(apply(first_).error().code(), Code::kCorruption);
  EXPECT_EQ(described(), std::nullopt);
}

TEST_F(PageTags, AMalformedFileDescribesNothing) {
  write_updates(true, {{0, 1}});
  ASSERT_TRUE(apply(first_).ok());
  Bytes content = os::read_file(tags_path(), kGiB).value();
  content[0] ^= 1;
  ASSERT_TRUE(os::write_file_durably(tags_path(), content).ok());
  EXPECT_EQ(described(), std::nullopt);
  ASSERT_TRUE(os::write_file_durably(tags_path(), as_bytes("RCLO")).ok());
  EXPECT_EQ(described(), std::nullopt);
}

}  // namespace
}  // namespace reclo::backup
