#include "os/direct_io.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <optional>

#include "base/aligned.h"
#include "base/limits.h"
#include "os/file.h"

namespace reclo::os {
namespace {

class DirectIoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create("direct-io");
    ASSERT_TRUE(folder.ok()) << folder.error().message();
    folder_.emplace(std::move(folder).value());
    path_ = join_path(folder_->path(), "file");
    auto fd = open_file(path_, OpenMode::kCreate);
    ASSERT_TRUE(fd.ok());
    fd_ = std::move(fd).value();
    for (size_t i = 0; i < kSizeBytes; ++i) buffer_[i] = static_cast<uint8_t>(i * 131 >> 4);
  }
  ByteSpan data(size_t from, size_t size) const { return {buffer_.get() + from, size}; }

  static constexpr size_t kSizeBytes = kMiB;
  std::optional<TempDir> folder_;
  std::string path_;
  Fd fd_;
  AlignedBuffer buffer_ = make_aligned_buffer(kSizeBytes);
};

TEST_F(DirectIoTest, WritesWholeBlocksAndLeavesTheRest) {
  const Fd direct = reopen_for_direct_writes(fd_);
  if (!direct.valid()) GTEST_SKIP() << "the temporary folder's file system has no direct I/O";
  const size_t size = 3 * kAlignmentBytes + 100;
  EXPECT_EQ(write_directly(direct, kAlignmentBytes, data(0, size)), 3 * kAlignmentBytes);
  Bytes back(3 * kAlignmentBytes);
  ASSERT_TRUE(read_at(fd_, kAlignmentBytes, back).ok());
  EXPECT_EQ(std::memcmp(back.data(), buffer_.get(), back.size()), 0);
  EXPECT_EQ(file_size_bytes(path_).value(), 4 * kAlignmentBytes);
}

TEST_F(DirectIoTest, TouchesNothingThatIsUnaligned) {
  const Fd direct = reopen_for_direct_writes(fd_);
  EXPECT_EQ(write_directly(direct, 512, data(0, kSizeBytes)), 0U);
  EXPECT_EQ(write_directly(direct, 0, data(16, kSizeBytes - 16)), 0U);
  EXPECT_EQ(write_directly(direct, 0, data(0, kAlignmentBytes - 1)), 0U);
  EXPECT_EQ(write_directly(direct, 0, {}), 0U);
  EXPECT_EQ(file_size_bytes(path_).value(), 0U);
}

TEST_F(DirectIoTest, AFileThatCannotBeReopenedIsLeftToOrdinaryWrites) {
  EXPECT_FALSE(reopen_for_direct_writes(Fd()).valid());
  EXPECT_EQ(write_directly(Fd(), 0, data(0, kSizeBytes)), 0U);
}

}  // namespace
}  // namespace reclo::os
