#include "backup/journal.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "os/random.h"

namespace reclo::backup {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() : folder_(os::TempDir::create("reclo-journal-").value()) {
    header_.session = os::random_id<SessionId>();
    header_.parent = os::random_id<PointId>();
    header_.disks = "/dev/vda\t1000\n";
  }
  std::string path() const { return os::join_path(folder_.path(), "session.journal"); }
  JournaledChunk chunk(uint32_t number) const {
    JournaledChunk entry;
    entry.chunk.id.mutable_bytes()[0] = static_cast<uint8_t>(number);
    entry.chunk.at = {{header_.session, number}, 3, number * 100, 77};
    entry.chunk.pages = 64;
    entry.disk_index = 1;
    entry.segment_index = number + 5;
    return entry;
  }
  static void expect_same(const JournaledChunk& a, const JournaledChunk& b) {
    EXPECT_EQ(a.chunk, b.chunk);
    EXPECT_EQ(a.disk_index, b.disk_index);
    EXPECT_EQ(a.segment_index, b.segment_index);
  }
  Bytes content() const { return os::read_file(path(), kGiB).value(); }
  void replace(const Bytes& bytes) { ASSERT_TRUE(os::write_file_durably(path(), bytes).ok()); }

  const os::TempDir folder_;
  JournalHeader header_;
};

TEST_F(JournalTest, NoFileIsNoJournal) { EXPECT_FALSE(Journal::load(path())); }

TEST_F(JournalTest, RemembersHeaderRunsAndChunks) {
  {
    const auto journal = Journal::create(path(), header_).value();
    EXPECT_EQ(journal->run(), 0u);
    ASSERT_TRUE(journal->append_pack({chunk(1), chunk(2)}).ok());
    ASSERT_TRUE(journal->append_pack({chunk(3)}).ok());
  }
  const auto loaded = Journal::load(path());
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->header, header_);
  EXPECT_EQ(loaded->runs, 1u);
  ASSERT_EQ(loaded->chunks.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) expect_same(loaded->chunks[i], chunk(i + 1));
}

TEST_F(JournalTest, ASessionWithoutParentIsToldApart) {
  header_.parent.reset();
  ASSERT_TRUE(Journal::create(path(), header_).ok());
  EXPECT_EQ(Journal::load(path())->header, header_);
}

TEST_F(JournalTest, EachResumeIsARunOfItsOwn) {
  ASSERT_TRUE(Journal::create(path(), header_).value()->append_pack({chunk(1)}).ok());
  for (uint32_t run = 1; run <= 5; ++run) {
    const auto journal = Journal::resume(path(), *Journal::load(path())).value();
    EXPECT_EQ(journal->run(), run);
    ASSERT_TRUE(journal->append_pack({chunk(run + 1)}).ok());
    const auto loaded = Journal::load(path());
    EXPECT_EQ(loaded->runs, run + 1);
    EXPECT_EQ(loaded->chunks.size(), run + 1);
  }
}

TEST_F(JournalTest, ADamagedTailLosesOnlyWhatFollows) {
  {
    const auto journal = Journal::create(path(), header_).value();
    for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(journal->append_pack({chunk(i)}).ok());
  }
  const Bytes whole = content();
  Bytes cut = whole;
  cut.resize(whole.size() - 3);
  replace(cut);
  ASSERT_EQ(Journal::load(path())->chunks.size(), 3u);
  // What is appended after resuming is found although the tail was damaged.
  ASSERT_TRUE(
      Journal::resume(path(), *Journal::load(path())).value()->append_pack({chunk(9)}).ok());
  const auto loaded = Journal::load(path());
  ASSERT_EQ(loaded->chunks.size(), 4u);
  expect_same(loaded->chunks[3], chunk(9));
}

TEST_F(JournalTest, NoDamageMakesItLieAboutRuns) {
  ASSERT_TRUE(Journal::create(path(), header_).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Journal::resume(path(), *Journal::load(path())).ok());
  {
    const auto journal = Journal::resume(path(), *Journal::load(path())).value();
    ASSERT_TRUE(journal->append_pack({chunk(1)}).ok());
  }
  const Bytes whole = content();
  for (size_t at = 0; at < whole.size(); ++at) {
    Bytes flipped = whole;
    flipped[at] ^= 0x20;
    replace(flipped);
    const auto loaded = Journal::load(path());
    if (!loaded) continue;
    EXPECT_EQ(loaded->runs, 5u) << "byte " << at;
    EXPECT_EQ(loaded->header, header_);
    EXPECT_LE(loaded->chunks.size(), 1u);
  }
  for (size_t size = 0; size < whole.size(); ++size) {
    replace(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)));
    const auto loaded = Journal::load(path());
    EXPECT_EQ(loaded ? loaded->runs : 5u, 5u) << "cut at " << size;
  }
}

TEST_F(JournalTest, ManyChunksSurviveARewrite) {
  std::vector<JournaledChunk> chunks;
  for (uint32_t i = 0; i < 60'000; ++i) chunks.push_back(chunk(i));
  ASSERT_TRUE(Journal::create(path(), header_).value()->append_pack(chunks).ok());
  ASSERT_TRUE(Journal::resume(path(), *Journal::load(path())).ok());
  const auto loaded = Journal::load(path());
  ASSERT_EQ(loaded->chunks.size(), chunks.size());
  expect_same(loaded->chunks.back(), chunks.back());
}

}  // namespace
}  // namespace reclo::backup
