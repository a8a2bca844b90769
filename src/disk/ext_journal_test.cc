#include "disk/ext_journal.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "disk/allocation.h"
#include "disk/test_images.h"

namespace reclo::disk {
namespace {

using namespace testing;

// debugfs writes a transaction as the kernel would, and leaves the file system in need of it.
class ExtJournals : public ::testing::TestWithParam<std::string> {
 protected:
  ExtJournals() {
    make_sparse_file(image_, 40 * kMiB);
    run({"mke2fs", "-q", "-t", "ext4", "-b", "1024", "-J", "size=4", "-O",
         "^metadata_csum,^uninit_bg," + GetParam(), image_});
  }
  uint64_t bitmap_block(uint32_t group) const {
    return std::stoull(shell("dumpe2fs " + image_ + " 2>/dev/null | grep -A3 '^Group " +
                             std::to_string(group) + ":' | grep -o 'Block bitmap at [0-9]*' |" +
                             " grep -o '[0-9]*$'"));
  }
  uint64_t journal_block(uint32_t index) const {
    return std::stoull(
        shell("debugfs -R 'bmap <8> " + std::to_string(index) + "' " + image_ + " 2>/dev/null"));
  }
  void put_in_journal(uint64_t block, ByteSpan content) const {
    write_file(folder_.path("block"), content);
    write_file(folder_.path("script"), as_bytes("jo\njw -b " + std::to_string(block) + " " +
                                                folder_.path("block") + "\njc\n"));
    shell("debugfs -w -f " + folder_.path("script") + " " + image_ + " 2>&1");
  }
  bool is_skippable(uint64_t offset_bytes) const {
    auto source = must_open(image_);
    const auto found = find_allocation(*source, test_limit());
    EXPECT_TRUE(found.ok());
    EXPECT_EQ(found->volumes[0].note, "");
    for (const Range& range : found->skippable)
      if (range.offset_bytes <= offset_bytes && offset_bytes < range.end_bytes()) return true;
    return false;
  }
  const ImageFolder folder_;
  const std::string image_ = folder_.path("fs");
};

constexpr uint64_t kGroupBlocks = 8192;
// With 1 KiB blocks, group 4 starts at block 32769; this is its first whole page: bits 3 to 6.
constexpr uint64_t kFirstPageBytes = (1 + 4 * kGroupBlocks + 3) * kKiB;

TEST_P(ExtJournals, ABlockThatTheLogWillUseIsKept) {
  ASSERT_TRUE(is_skippable(kFirstPageBytes));
  ASSERT_TRUE(is_skippable(kFirstPageBytes + 40 * kKiB));
  Bytes bitmap(kKiB);
  bitmap[0] = 0x10;  // bit 4
  put_in_journal(bitmap_block(4), bitmap);
  EXPECT_FALSE(is_skippable(kFirstPageBytes));
  EXPECT_TRUE(is_skippable(kFirstPageBytes + 40 * kKiB));
}

TEST_P(ExtJournals, AnUncommittedTransactionCountsToo) {
  ASSERT_TRUE(is_skippable(kFirstPageBytes));
  Bytes bitmap(kKiB);
  bitmap[0] = 0x10;
  put_in_journal(bitmap_block(4), bitmap);
  // The log is a descriptor, the block, and the commit, which is lost here.
  auto source = must_open(image_);
  ASSERT_EQ(must_read(*source, journal_block(3) * kKiB, 8),
            (Bytes{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2}));
  patch_file(image_, journal_block(3) * kKiB, Bytes(kKiB));
  EXPECT_FALSE(is_skippable(kFirstPageBytes));
}

TEST_P(ExtJournals, ABitmapThatLooksLikeAJournalHeaderIsRestored) {
  ASSERT_TRUE(is_skippable(kFirstPageBytes));
  Bytes bitmap(kKiB);
  store_le<uint32_t>(bitmap.data(), 0x98393bc0);  // c0 3b 39 98: bits 6, 7, 8, 9 ... are used
  put_in_journal(bitmap_block(4), bitmap);
  EXPECT_FALSE(is_skippable(kFirstPageBytes));
}

TEST_P(ExtJournals, AJournalOfUnknownFeaturesMeansNothingIsSkipped) {
  Bytes bitmap(kKiB);
  put_in_journal(bitmap_block(4), bitmap);
  const uint64_t features_at = journal_block(0) * kKiB + 40;
  auto source = must_open(image_);
  Bytes features = must_read(*source, features_at, 4);
  features[3] |= 0x20;  // fast commits
  source.reset();
  patch_file(image_, features_at, features);
  source = must_open(image_);
  const auto found = find_allocation(*source, test_limit());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->skippable_bytes, 0U);
  EXPECT_NE(found->volumes[0].note.find("fast commits"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, ExtJournals, ::testing::Values("64bit", "^64bit"),
                         [](const auto& each) {
                           return each.param == "64bit" ? "bit64" : "bit32";
                         });

}  // namespace
}  // namespace reclo::disk
