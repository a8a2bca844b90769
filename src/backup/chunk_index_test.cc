#include "backup/chunk_index.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "base/units.h"
#include "os/random.h"

namespace reclo::backup {
namespace {

ChunkId id_of(uint64_t number) {
  ChunkId id;
  uint8_t* bytes = id.mutable_bytes().data();
  store_le(bytes, number * 0x9e3779b97f4a7c15u + 1);
  store_le(bytes + 8, number * 0xc2b2ae3d27d4eb4fu + 7);
  return id;
}

class ChunkIndexTest : public ::testing::Test {
 protected:
  ChunkIndexTest() : folder_(os::TempDir::create("reclo-index-").value()) {}
  std::string path() const { return os::join_path(folder_.path(), "chunks.index"); }
  std::unique_ptr<ChunkIndex> open() const { return ChunkIndex::open(path(), session_).value(); }
  repo::ChunkRef chunk(uint64_t number) const {
    const auto low = static_cast<uint32_t>(number);
    return {id_of(number), {{session_, low}, static_cast<uint16_t>(low), low * 3, low + 17}, 64};
  }

  const os::TempDir folder_;
  const SessionId session_ = os::random_id<SessionId>();
};

TEST_F(ChunkIndexTest, FindsWhatThisRunInserted) {
  const auto index = open();
  EXPECT_FALSE(index->find(id_of(1)));
  index->insert(chunk(1), 2, 300);
  const auto found = index->find(id_of(1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->disk_index, 2);
  EXPECT_EQ(found->segment_index, 300u);
  EXPECT_EQ(found->stored, chunk(1));
  EXPECT_FALSE(index->find(id_of(2)));
}

TEST_F(ChunkIndexTest, TheLaterPlaceReplacesTheEarlier) {
  const auto index = open();
  index->insert(chunk(1), 0, 1);
  index->insert(chunk(1), 0, 9);
  EXPECT_EQ(index->find(id_of(1))->segment_index, 9u);
  EXPECT_EQ(index->entry_count(), 1u);
}

TEST_F(ChunkIndexTest, AnEarlierRunsEntriesAreHintsOnly) {
  {
    const auto index = open();
    index->insert(chunk(1), 1, 42);
  }
  const auto index = open();
  const auto found = index->find(id_of(1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->disk_index, 1);
  EXPECT_EQ(found->segment_index, 42u);
  EXPECT_FALSE(found->stored);
  index->insert(chunk(1), 1, 43);
  EXPECT_TRUE(index->find(id_of(1))->stored);
}

TEST_F(ChunkIndexTest, GrowsAndKeepsEverything) {
  constexpr uint64_t kCount = 50'000;
  {
    const auto index = open();
    for (uint64_t i = 0; i < kCount; ++i) index->insert(chunk(i), 0, i);
    EXPECT_EQ(index->entry_count(), kCount);
    for (uint64_t i = 0; i < kCount; ++i) ASSERT_EQ(index->find(id_of(i))->stored, chunk(i)) << i;
  }
  const auto index = open();
  EXPECT_EQ(index->entry_count(), kCount);
  for (uint64_t i = 0; i < kCount; i += 7) ASSERT_EQ(index->find(id_of(i))->segment_index, i);
  for (uint64_t i = kCount; i < kCount + 1000; ++i) ASSERT_FALSE(index->find(id_of(i)));
}

TEST_F(ChunkIndexTest, ADamagedHeaderOrLengthStartsAfresh) {
  for (const int damage : {0, 1, 2, 3}) {
    {
      const auto index = open();
      index->insert(chunk(1), 0, 1);
    }
    Bytes content = os::read_file(path(), kGiB).value();
    if (damage == 0) content[0] ^= 1;
    if (damage == 1) content[8] ^= 1;
    if (damage == 2) content.resize(content.size() - 1);
    if (damage == 3) content.clear();
    ASSERT_TRUE(os::write_file_durably(path(), content).ok());
    const auto index = open();
    EXPECT_FALSE(index->find(id_of(1)));
    index->insert(chunk(2), 0, 1);
    EXPECT_TRUE(index->find(id_of(2)));
  }
}

TEST_F(ChunkIndexTest, ADamagedEntryIsIgnored) {
  {
    const auto index = open();
    index->insert(chunk(1), 0, 1);
    index->insert(chunk(2), 0, 2);
  }
  Bytes content = os::read_file(path(), kGiB).value();
  const Bytes id = to_bytes(id_of(1).bytes());
  const auto at = std::search(content.begin(), content.end(), id.begin(), id.end());
  ASSERT_NE(at, content.end());
  *(at + 24) ^= 0x40;  // its segment
  ASSERT_TRUE(os::write_file_durably(path(), content).ok());
  const auto index = open();
  EXPECT_FALSE(index->find(id_of(1)));
  EXPECT_EQ(index->find(id_of(2))->segment_index, 2u);
  index->insert(chunk(1), 0, 5);
  EXPECT_EQ(index->find(id_of(1))->segment_index, 5u);
}

TEST_F(ChunkIndexTest, GarbageEverywhereIsSurvived) {
  {
    const auto index = open();
    index->insert(chunk(1), 0, 1);
  }
  Bytes content = os::read_file(path(), kGiB).value();
  for (size_t i = 4096; i < content.size(); ++i) content[i] = static_cast<uint8_t>(i * 131 + 7);
  ASSERT_TRUE(os::write_file_durably(path(), content).ok());
  const auto index = open();
  EXPECT_FALSE(index->find(id_of(1)));
  for (uint64_t i = 0; i < 100; ++i) index->insert(chunk(i), 0, i);
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(index->find(id_of(i))->segment_index, i);
}

// A limit on file sizes stands in for a full disk: both fail where blocks are reserved.
TEST_F(ChunkIndexTest, WithoutRoomItStopsLearning) {
  EXPECT_EXIT(
      {
        ::signal(SIGXFSZ, SIG_IGN);
        const auto index = open();
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = kMiB + kMiB / 4;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        for (uint64_t i = 0; i < 50'000; ++i) index->insert(chunk(i), 0, i);
        bool right = index->entry_count() < 20'000;
        for (uint64_t i = 0; i < index->entry_count(); ++i)
          right = right && index->find(id_of(i)) && index->find(id_of(i))->stored == chunk(i);
        ::_exit(right && !os::path_exists(path() + ".grow") ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
  const auto index = open();
  EXPECT_GT(index->entry_count(), 10'000u);
  EXPECT_TRUE(index->find(id_of(3)));
}

}  // namespace
}  // namespace reclo::backup
