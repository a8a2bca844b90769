#include "disk/block_sink.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/units.h"
#include "disk/device_use.h"
#include "disk/test_images.h"

namespace reclo::disk {
namespace {

using namespace testing;

std::unique_ptr<BlockSink> must_sink(const std::string& path, uint64_t size_bytes,
                                     SinkOptions options = {}) {
  auto sink = open_sink(path, size_bytes, options);
  EXPECT_TRUE(sink.ok()) << (sink.ok() ? "" : sink.error().message());
  return sink.ok() ? std::move(sink).value() : nullptr;
}
Error must_refuse(const std::string& path, uint64_t size_bytes, SinkOptions options = {}) {
  auto sink = open_sink(path, size_bytes, options);
  EXPECT_FALSE(sink.ok());
  return sink.ok() ? Error(Code::kInternal, "opened") : sink.error();
}
uint64_t space_used_bytes(const std::string& path) {
  struct stat info{};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}
void expect_ok(const Status& status) {
  EXPECT_TRUE(status.ok()) << (status.ok() ? "" : status.error().message());
}
Bytes read_back(BlockSink& sink, uint64_t offset_bytes, size_t size_bytes) {
  Bytes out(size_bytes, 0xEE);
  expect_ok(sink.read_at(offset_bytes, out));
  return out;
}

TEST(BlockSink, ANewFileIsSparseAndZero) {
  const ImageFolder folder;
  auto sink = must_sink(folder.path("d"), 64 * kMiB + 512);
  EXPECT_TRUE(sink->starts_zeroed());
  const Bytes data = noise(kMiB, 1);
  expect_ok(sink->write_at(5 * kMiB, data));
  expect_ok(sink->write_at(64 * kMiB, ByteSpan(data).first(512)));
  EXPECT_EQ(read_back(*sink, 5 * kMiB, kMiB), data);
  EXPECT_TRUE(is_all_zero(read_back(*sink, 0, kMiB)));
  EXPECT_FALSE(sink->write_at(64 * kMiB, ByteSpan(data).first(513)).ok());
  expect_ok(sink->finish());
  EXPECT_EQ(os::file_size_bytes(folder.path("d")).value(), 64 * kMiB + 512);
  EXPECT_LT(space_used_bytes(folder.path("d")), 2 * kMiB);
}

TEST(BlockSink, ZerosGiveSpaceBackAndTouchNothingElse) {
  const ImageFolder folder;
  const Bytes data = noise(4 * kMiB, 2);
  write_file(folder.path("d"), data);
  auto sink = must_sink(folder.path("d"), data.size());
  EXPECT_FALSE(sink->starts_zeroed());
  expect_ok(sink->write_zeros(100, 3 * kMiB));
  Bytes wanted = data;
  std::fill(wanted.begin() + 100, wanted.begin() + 100 + 3 * kMiB, uint8_t{0});
  EXPECT_EQ(read_back(*sink, 0, wanted.size()), wanted);
  expect_ok(sink->write_zeros(4 * kMiB - 10, 10));
  EXPECT_TRUE(is_all_zero(read_back(*sink, 4 * kMiB - 10, 10)));
  expect_ok(sink->finish());
  EXPECT_LT(space_used_bytes(folder.path("d")), 2 * kMiB);
}

TEST(BlockSink, WritesOfEverySizeAndPlaceReadBack) {
  // Large ones at block boundaries pass the page cache, their neighbours do not.
  const ImageFolder folder;
  const uint64_t size = 8 * kMiB + 1000;
  Bytes model(size, 0);
  auto sink = must_sink(folder.path("d"), size);
  uint64_t seed = 1;
  const auto put = [&](uint64_t offset, uint64_t length, size_t shift) {
    const Bytes data = noise(length + shift, seed++);
    const ByteSpan part = ByteSpan(data).subspan(shift);
    expect_ok(sink->write_at(offset, part));
    std::copy(part.begin(), part.end(), model.begin() + static_cast<ptrdiff_t>(offset));
  };
  put(0, 4 * kMiB, 0);
  put(4 * kMiB, 4 * kMiB + 1000, 0);
  put(kMiB, 256 * kKiB, 0);
  put(kMiB + 4096, 300'000, 0);
  put(kMiB + 512, 512 * kKiB, 0);
  put(3 * kMiB, 512 * kKiB, 7);
  EXPECT_TRUE(read_back(*sink, 0, size) == model);
  put(2 * kMiB, kMiB, 0);
  EXPECT_TRUE(read_back(*sink, 0, size) == model) << "what was read before must not linger";
  expect_ok(sink->finish());
  EXPECT_TRUE(os::read_file(folder.path("d"), kGiB).value() == model);
}

TEST(BlockSink, AFileOfAnotherSizeNeedsForce) {
  const ImageFolder folder;
  write_file(folder.path("d"), noise(kMiB, 3));
  const Error error = must_refuse(folder.path("d"), 2 * kMiB);
  EXPECT_EQ(error.code(), Code::kAlreadyExists);
  EXPECT_EQ(os::file_size_bytes(folder.path("d")).value(), kMiB);
  auto sink = must_sink(folder.path("d"), 2 * kMiB, {.force = true});
  EXPECT_FALSE(sink->starts_zeroed());
  expect_ok(sink->finish());
  EXPECT_EQ(os::file_size_bytes(folder.path("d")).value(), 2 * kMiB);
}

TEST(BlockSink, OneWriterAtATime) {
  const ImageFolder folder;
  auto sink = must_sink(folder.path("d"), kMiB);
  EXPECT_EQ(must_refuse(folder.path("d"), kMiB).code(), Code::kConflict);
  sink.reset();
  must_sink(folder.path("d"), kMiB);
}

TEST(BlockSink, RefusesWhatIsNoDisk) {
  const ImageFolder folder;
  EXPECT_EQ(must_refuse(folder.folder(), kMiB).code(), Code::kInvalidArgument);
  EXPECT_EQ(must_refuse("/dev/null", kMiB).code(), Code::kInvalidArgument);
  EXPECT_EQ(must_refuse(folder.path("no/such/folder"), kMiB).code(), Code::kNotFound);
  EXPECT_EQ(must_refuse(folder.path("d"), 0).code(), Code::kInvalidArgument);
  EXPECT_FALSE(os::path_exists(folder.path("d")));
}

TEST(BlockSink, WritesABlockDevice) {
  const ImageFolder folder;
  const Bytes old = noise(8 * kMiB, 4);
  write_file(folder.path("d"), old);
  {
    const LoopDevice loop(folder.path("d"));
    auto sink = must_sink(loop.path(), 8 * kMiB);
    EXPECT_FALSE(sink->starts_zeroed());
    EXPECT_EQ(read_back(*sink, kMiB, 4096), Bytes(old.begin() + kMiB, old.begin() + kMiB + 4096));
    expect_ok(sink->write_at(0, noise(kMiB, 5)));
    expect_ok(sink->write_zeros(2 * kMiB + 100, 3 * kMiB));
    EXPECT_EQ(must_refuse(loop.path(), 8 * kMiB).code(), Code::kConflict);
    expect_ok(sink->finish());
  }
  Bytes wanted = old;
  const Bytes fresh = noise(kMiB, 5);
  std::copy(fresh.begin(), fresh.end(), wanted.begin());
  std::fill(wanted.begin() + 2 * kMiB + 100, wanted.begin() + 5 * kMiB + 100, uint8_t{0});
  EXPECT_EQ(must_read(*must_open(folder.path("d")), 0, wanted.size()), wanted);
}

TEST(BlockSink, ADeviceThatIsTooSmallNeedsForceAndCountsWhatIsLost) {
  const ImageFolder folder;
  make_sparse_file(folder.path("d"), kMiB);
  const LoopDevice loop(folder.path("d"));
  const Error error = must_refuse(loop.path(), 2 * kMiB);
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_NE(error.message().find("too small"), std::string::npos);
  auto sink = must_sink(loop.path(), 2 * kMiB, {.force = true});
  expect_ok(sink->write_at(kMiB - 4096, noise(8192, 6)));
  expect_ok(sink->write_zeros(kMiB + 4096, 4096));
  EXPECT_EQ(sink->dropped_bytes(), 4096U);
  EXPECT_TRUE(is_all_zero(read_back(*sink, kMiB, 4096)));
  expect_ok(sink->finish());
}

TEST(BlockSink, AMountedDeviceAndItsFileAreRefused) {
  const ImageFolder folder;
  make_sparse_file(folder.path("d"), 16 * kMiB);
  run({"mke2fs", "-q", "-t", "ext2", folder.path("d")});
  const LoopDevice loop(folder.path("d"));
  {
    const Mount mount(loop.path(), folder.path("m"));
    Error error = must_refuse(loop.path(), 16 * kMiB);
    EXPECT_EQ(error.code(), Code::kConflict);
    EXPECT_NE(error.message().find("mounted on " + folder.path("m")), std::string::npos);
  }
  const Error error = must_refuse(folder.path("d"), 16 * kMiB);
  EXPECT_EQ(error.code(), Code::kConflict);
  EXPECT_NE(error.message().find(loop.path()), std::string::npos);
}

TEST(BlockSink, ADiskWithAMountedPartitionIsRefused) {
  const ImageFolder folder;
  make_sparse_file(folder.path("d"), 32 * kMiB);
  shell("printf 'label: dos\\nstart=2048,type=83\\n' | sfdisk -q " + folder.path("d"));
  shell("cd " + folder.folder() +
        "; truncate -s 31M p; mke2fs -q -t ext2 p; dd if=p of=d bs=1M seek=1 conv=notrunc "
        "status=none");
  const LoopDevice loop(folder.path("d"));
  // The kernel here scans no tables: the partition is announced by hand.
  run({"addpart", loop.path(), "1", "2048", "63488"});
  const std::string partition = loop.path() + "p1";
  if (!os::path_exists(partition))
    shell("mknod " + partition + " b $(tr : ' ' < /sys/class/block/" + os::base_name(partition) +
          "/dev)");
  {
    const Mount mount(partition, folder.path("m"));
    const Error error = must_refuse(loop.path(), 32 * kMiB);
    EXPECT_EQ(error.code(), Code::kConflict);
    EXPECT_NE(error.message().find("p1 is mounted"), std::string::npos) << error.message();
  }
  run({"delpart", loop.path(), "1"});
  shell("rm -f " + partition);
}

TEST(BlockSink, SwapIsRefused) {
  const ImageFolder folder;
  shell("cd " + folder.folder() +
        "; dd if=/dev/zero of=d bs=1M count=2 status=none; chmod 600 d; mkswap -q d");
  const LoopDevice loop(folder.path("d"));
  run({"swapon", loop.path()});
  EXPECT_EQ(must_refuse(loop.path(), 2 * kMiB).code(), Code::kConflict);
  const auto user = who_uses(loop.path());
  EXPECT_TRUE(user.ok() && user->value_or("").find("swap") != std::string::npos);
  run({"swapoff", loop.path()});
}

}  // namespace
}  // namespace reclo::disk
