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
    EXPECT_TRUE(file.ok() && file->read(segment, tags).ok());
    return tags;
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
  for (const size_t cut_bytes : {size_t{1}, size_t{24}, size_t{100}, 8 + sizeof(SegmentTags)}) {
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
