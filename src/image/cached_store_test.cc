#include "image/cached_store.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "image/block_image.h"
#include "image/image_test_util.h"

namespace reclo::image {
namespace {

using testing::must;
using testing::test_limit;

constexpr const char* kKey = "machines/a/packs/b/00000000";

class CachedStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    pack_ = testing::make_disk(3 * kMiB + 12'345, 5, 0);
    must(inner_.put_if_absent(kKey, pack_, test_limit()));
    open(kGiB);
  }
  void open(uint64_t size_bytes_max) {
    store_.reset();
    store_ = must(CachedStore::open(inner_, folder_.path(), size_bytes_max));
  }
  void expect_range(uint64_t offset, uint64_t size) {
    const Bytes got = must(store_->get_range(kKey, {offset, size}, test_limit()));
    EXPECT_TRUE(std::equal(got.begin(), got.end(), pack_.begin() + static_cast<ptrdiff_t>(offset)))
        << offset << " + " << size;
    EXPECT_EQ(got.size(), size);
  }
  uint64_t gets() const { return inner_.counters().requests_get; }

  os::TempDir folder_ = must(os::TempDir::create("reclo-cache-test-"));
  store::MemoryStore inner_;
  Bytes pack_;
  std::unique_ptr<CachedStore> store_;
};

TEST_F(CachedStoreTest, AnyRangeIsRight) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const uint64_t offset = random() % pack_.size();
    expect_range(offset, 1 + random() % (pack_.size() - offset));
  }
  expect_range(0, pack_.size());
  expect_range(pack_.size() - 1, 1);
}

TEST_F(CachedStoreTest, NeighboursAreThereAndSurviveARestart) {
  expect_range(kMiB, 1000);
  const uint64_t before = gets();
  expect_range(kMiB + 5000, 100'000);
  open(kGiB);
  expect_range(kMiB, 200'000);
  EXPECT_EQ(gets(), before);
}

TEST_F(CachedStoreTest, PastTheEndIsAnErrorAndTheEndIsNot) {
  expect_range(pack_.size() - 500, 500);
  EXPECT_EQ(store_->get_range(kKey, {pack_.size() - 5, 6}, test_limit()).error().code(),
            Code::kCorruption);
  EXPECT_EQ(store_->get_range("machines/a/packs/b/1", {0, 6}, test_limit()).error().code(),
            Code::kNotFound);
}

TEST_F(CachedStoreTest, TheSizeIsKept) {
  open(2 * kCacheBlockSizeBytes);
  expect_range(0, pack_.size());
  uint64_t used = 0;
  for (const std::string& name : must(os::list_directory(folder_.path())))
    used += must(os::file_size_bytes(os::join_path(folder_.path(), name)));
  EXPECT_LE(used, 2 * kCacheBlockSizeBytes);
  EXPECT_GT(store_->cache_counters().evictions, 0u);
  expect_range(0, pack_.size());
}

TEST_F(CachedStoreTest, LostAndShortBlocksAreFetchedAgain) {
  expect_range(0, pack_.size());
  bool shorten = false;
  for (const std::string& name : must(os::list_directory(folder_.path()))) {
    const std::string path = os::join_path(folder_.path(), name);
    if (shorten)
      must(os::write_file_durably(path, Bytes(10)));
    else
      must(os::remove_file(path));
    shorten = !shorten;
  }
  expect_range(0, pack_.size());
}

TEST_F(CachedStoreTest, ARefreshReplacesWhatIsDamaged) {
  expect_range(0, 1000);
  const std::string path =
      os::join_path(folder_.path(), must(os::list_directory(folder_.path())).at(0));
  Bytes block = must(os::read_file(path, kMiB));
  block[10] ^= 1;
  must(os::write_file_durably(path, block));
  EXPECT_NE(must(store_->get_range(kKey, {0, 100}, test_limit()))[10], pack_[10]);
  {
    const CacheRefresh refresh;
    expect_range(0, 100);
  }
  expect_range(0, 1000);
}

TEST_F(CachedStoreTest, ConcurrentReadersFetchABlockOnce) {
  std::vector<std::jthread> readers;
  for (int i = 0; i < 8; ++i) readers.emplace_back([this] { expect_range(0, 2 * kMiB); });
  readers.clear();
  EXPECT_LE(store_->cache_counters().misses, 4u);
}

TEST_F(CachedStoreTest, AnUnwritableFolderCostsOnlyTheCache) {
  must(os::remove_tree(folder_.path()));
  expect_range(0, pack_.size());
  expect_range(100, 1000);
}

TEST_F(CachedStoreTest, ADamagedCacheIsHealedByTheImage) {
  testing::TestServer server(inner_);
  const Bytes disk = testing::make_disk(9 * kMiB, 3);
  server.back_up(disk);
  for (int round = 0; round < 2; ++round) {
    const auto slots = server.reader(store_.get());
    repo::MapReader maps(*slots);
    BlockImage image(maps, server.points()[0].record.disks[0], {.read_ahead_segments_max = 0});
    Bytes out(disk.size());
    must(image.read_at(0, out, test_limit()));
    EXPECT_TRUE(out == disk);
    for (const std::string& name : must(os::list_directory(folder_.path()))) {
      const std::string path = os::join_path(folder_.path(), name);
      Bytes block = must(os::read_file(path, kMiB));
      for (size_t at = 700; at < block.size(); at += 10'000) block[at] ^= 0x40;
      must(os::write_file_durably(path, block));
    }
  }
}

}  // namespace
}  // namespace reclo::image
