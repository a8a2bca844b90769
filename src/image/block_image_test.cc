#include "image/block_image.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "image/image_test_util.h"
#include "store/fault_store.h"

namespace reclo::image {
namespace {

using testing::must;
using testing::test_limit;
using testing::TestServer;

// A disk that ends in the middle of a page, at its full point and after three incrementals.
class BlockImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    disk_ = testing::make_disk(13 * kMiB + 1000, 7);
    std::fill_n(disk_.begin() + 4 * kMiB, 4 * kMiB, uint8_t{0});  // a segment that is a hole
    server_ = std::make_unique<TestServer>(store_);
    disks_.push_back(disk_);
    server_->back_up(disk_);
    for (uint64_t round = 1; round <= 3; ++round) {
      testing::change_pages(disk_, round, 20);
      disks_.push_back(disk_);
      server_->back_up(disk_);
    }
    open(3);
  }
  void open(size_t point, const BlockImageOptions& options = {},
            store::ObjectStore* through = nullptr) {
    image_.reset();
    slots_ = server_->reader(through);
    maps_ = std::make_unique<repo::MapReader>(*slots_);
    image_ =
        std::make_unique<BlockImage>(*maps_, server_->points()[point].record.disks[0], options);
  }
  Bytes read(uint64_t offset_bytes, size_t size_bytes) {
    Bytes out(size_bytes, 0xee);
    must(image_->read_at(offset_bytes, out, test_limit()));
    return out;
  }
  Bytes expected(uint64_t offset_bytes, size_t size_bytes, size_t point = 3) const {
    const auto from = disks_[point].begin() + static_cast<ptrdiff_t>(offset_bytes);
    return {from, from + static_cast<ptrdiff_t>(size_bytes)};
  }

  store::MemoryStore store_;
  Bytes disk_;
  std::vector<Bytes> disks_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<repo::SlotReader> slots_;
  std::unique_ptr<repo::MapReader> maps_;
  std::unique_ptr<BlockImage> image_;
};

TEST_F(BlockImageTest, EveryPointReadsAsTheDiskWas) {
  for (size_t point = 0; point < disks_.size(); ++point) {
    open(point);
    EXPECT_EQ(image_->size_bytes(), disks_[point].size());
    EXPECT_TRUE(read(0, disks_[point].size()) == disks_[point]) << "point " << point;
  }
}

TEST_F(BlockImageTest, AnyAlignmentWorks) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) {
    const uint64_t offset = random() % disk_.size();
    const size_t size = std::min<uint64_t>(1 + random() % 300'000, disk_.size() - offset);
    ASSERT_TRUE(read(offset, size) == expected(offset, size)) << offset << " + " << size;
  }
}

TEST_F(BlockImageTest, ReadsPastTheEndAreRefused) {
  Bytes out(10);
  EXPECT_EQ(image_->read_at(disk_.size() - 9, out, test_limit()).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(image_->read_at(UINT64_MAX, out, test_limit()).error().code(), Code::kInvalidArgument);
  EXPECT_TRUE(image_->read_at(disk_.size(), {}, test_limit()).ok());
}

TEST_F(BlockImageTest, ATinyCacheIsEnough) {
  open(3, {.cache_size_bytes = kPageSizeBytes, .read_ahead_segments_max = 2});
  EXPECT_TRUE(read(0, disk_.size()) == disk_);
}

TEST_F(BlockImageTest, ConcurrentReadersFetchEachChunkOnce) {
  open(0, {.read_ahead_segments_max = 0});
  std::vector<std::jthread> readers;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 8; ++i)
    readers.emplace_back([&] {
      for (uint64_t at = 0; at + kMiB <= disk_.size(); at += kMiB)
        if (read(at, kMiB) != expected(at, kMiB, 0)) ++wrong;
    });
  readers.clear();
  EXPECT_EQ(wrong, 0);
  size_t chunks = 0;
  for (uint64_t segment = 0; segment < 4; ++segment) {
    const auto leaf = must(maps_->find_leaf(repo::MapRoot::of(server_->points()[0].record.disks[0]),
                                            segment, test_limit()));
    if (leaf) chunks += leaf->chunks.size();
  }
  EXPECT_LE(image_->counters().fetched_chunks, chunks);
  EXPECT_GE(image_->counters().fetched_chunks, chunks - 4);  // the last MiB was not read
}

TEST_F(BlockImageTest, SequentialReadsAreFetchedAheadInLargeRequests) {
  // A store with some way to it: in memory the reader can be faster than what fetches ahead of it.
  auto copy = std::make_unique<store::MemoryStore>();
  must(store_.list(
      "",
      [&](const store::ObjectInfo& info) -> Status {
        copy->overwrite(info.key, must(store_.get(info.key, kGiB, test_limit())));
        return {};
      },
      test_limit()));
  store::FaultStore distant(std::move(copy),
                            {.delay_percent = 100, .delay = std::chrono::milliseconds(3)});
  open(0, {}, &distant);
  for (uint64_t at = 0; at + 64 * kKiB <= disk_.size(); at += 64 * kKiB)
    ASSERT_TRUE(read(at, 64 * kKiB) == expected(at, 64 * kKiB, 0));
  const BlockImageCounters counters = image_->counters();
  EXPECT_LT(counters.requests, counters.fetched_chunks / 3);
  image_.reset();  // before the store it reads from
}

TEST_F(BlockImageTest, RunsTellDataFromZeros) {
  for (const size_t runs_max : {size_t{1}, size_t{2}, size_t{1000}}) {
    uint64_t at = 512;
    while (at < disk_.size()) {
      const auto runs = must(image_->runs({at, disk_.size()}, runs_max, test_limit()));
      ASSERT_FALSE(runs.empty());
      ASSERT_LE(runs.size(), runs_max);
      for (const image::Run& run : runs) {
        ASSERT_EQ(run.range.offset_bytes, at);
        const Bytes content = expected(at, run.range.size_bytes);
        if (!run.is_data) {
          EXPECT_TRUE(is_all_zero(content)) << at;
        }
        at = run.range.end_bytes();
      }
    }
    EXPECT_EQ(at, disk_.size());
  }
}

TEST_F(BlockImageTest, RunsSkipWholeHoles) {
  const auto runs = must(image_->runs({4 * kMiB, 4 * kMiB}, 10, test_limit()));
  // Incrementals wrote some pages into what was a hole at first.
  open(0);
  const auto before = must(image_->runs({4 * kMiB, 4 * kMiB}, 10, test_limit()));
  EXPECT_EQ(before, (std::vector<image::Run>{{{4 * kMiB, 4 * kMiB}, false}}));
  EXPECT_GT(runs.size(), 1u);
}

TEST_F(BlockImageTest, DamageIsReportedWithTheObjectAndSparesTheRest) {
  const auto leaf = must(
      maps_->find_leaf(repo::MapRoot::of(server_->points()[0].record.disks[0]), 0, test_limit()));
  const repo::SlotAddress at = leaf->chunks[0].at;
  const std::string key = server_->pack_key(at.pack);
  Bytes pack = must(store_.get(key, 1 << 30, test_limit()));
  pack[at.offset_bytes + 20] ^= 1;
  store_.overwrite(key, pack);
  open(0);
  const uint64_t first_page = leaf->extents[0].first_page * kPageSizeBytes;
  Bytes out(kPageSizeBytes);
  const Status status = image_->read_at(first_page, out, test_limit());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kCorruption);
  EXPECT_NE(status.error().message().find(key), std::string::npos) << status.error().message();
  EXPECT_TRUE(read(9 * kMiB, kMiB) == expected(9 * kMiB, kMiB, 0));
  // Mended, it is read again: an error is not kept.
  pack[at.offset_bytes + 20] ^= 1;
  store_.overwrite(key, pack);
  EXPECT_TRUE(read(0, kMiB) == expected(0, kMiB, 0));
}

TEST_F(BlockImageTest, AMissingPackIsNamed) {
  const auto leaf = must(
      maps_->find_leaf(repo::MapRoot::of(server_->points()[0].record.disks[0]), 0, test_limit()));
  const std::string key = server_->pack_key(leaf->chunks[0].at.pack);
  must(store_.remove(key, test_limit()));
  open(0);
  Bytes out(kMiB);
  const Status status = image_->read_at(0, out, test_limit());
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message().find(key), std::string::npos) << status.error().message();
}

TEST_F(BlockImageTest, ACancelledReaderReturns) {
  std::stop_source stop;
  stop.request_stop();
  Bytes out(kMiB);
  open(0, {}, nullptr);
  const Status status = image_->read_at(0, out, CancelToken(stop.get_token()));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kCancelled);
}

TEST(ReadAheadTest, RandomReadsAskForNothing) {
  ReadAhead ahead(8);
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i)
    EXPECT_TRUE(ahead.on_read(random() % (uint64_t{1} << 50) / 4096 * 4096, 4096).empty());
}

TEST(ReadAheadTest, TheWindowGrowsToItsLimit) {
  ReadAhead ahead(8);
  uint64_t widest = 0;
  uint64_t asked_to = 0;
  for (uint64_t at = 0; at < kGiB; at += 128 * kKiB) {
    const SegmentSpan span = ahead.on_read(at, 128 * kKiB);
    if (span.empty()) continue;
    EXPECT_GE(span.first, asked_to);
    asked_to = span.end;
    widest = std::max(widest, span.end - at / kSegmentSizeBytes);
  }
  EXPECT_EQ(widest, 9u);  // the current segment and eight more
  EXPECT_GE(asked_to, kGiB / kSegmentSizeBytes);
}

}  // namespace
}  // namespace reclo::image
