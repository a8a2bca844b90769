#include "image/boot_set.h"

#include <gtest/gtest.h>

#include "image/image_spec.h"
#include "os/file.h"
#include "os/random.h"

namespace reclo::image {
namespace {

class BootSetTest : public ::testing::Test {
 protected:
  os::TempDir folder_ = os::TempDir::create("reclo-boot-set-test-").value();
  std::string path_ = os::join_path(folder_.path(), "boot-set");
};

TEST_F(BootSetTest, KeepsTheOrderOfFirstReads) {
  {
    BootSetRecorder recorder(path_, kGiB);
    recorder.note_read({512 * kMiB, 100});
    recorder.note_read({0, kMiB});
    recorder.note_read({512 * kMiB + 5, 100});
    recorder.note_read({kGiB - 10, 10});
  }
  const auto ranges = load_boot_set(path_, kGiB);
  ASSERT_TRUE(ranges.ok());
  EXPECT_EQ(*ranges, (std::vector<disk::Range>{
                         {512 * kMiB, kBootSetGranuleSizeBytes},
                         {0, kMiB},
                         {kGiB - kBootSetGranuleSizeBytes, kBootSetGranuleSizeBytes}}));
  const auto smaller = load_boot_set(path_, kMiB + 1);
  ASSERT_TRUE(smaller.ok());
  EXPECT_EQ(smaller->size(), 1u);
}

TEST_F(BootSetTest, RecordsOnlyTheFirstMinutes) {
  BootSetRecorder recorder(path_, kGiB, std::chrono::milliseconds(1));
  recorder.note_read({0, 1});
  ASSERT_TRUE(CancelToken().sleep_for(std::chrono::milliseconds(10)).ok());
  recorder.note_read({kMiB, 1});
  const auto ranges = load_boot_set(path_, kGiB);
  ASSERT_TRUE(ranges.ok());
  EXPECT_EQ(ranges->size(), 1u);
}

TEST_F(BootSetTest, RefusesDamage) {
  {
    BootSetRecorder recorder(path_, kGiB);
    recorder.note_read({0, kMiB});
  }
  const auto content = os::read_file(path_, kMiB);
  ASSERT_TRUE(content.ok());
  for (size_t size = 0; size < content->size(); ++size)
    EXPECT_FALSE(decode_boot_set(ByteSpan(*content).first(size), kGiB).ok());
  EXPECT_EQ(load_boot_set(path_ + "x", kGiB).error().code(), Code::kNotFound);
}

TEST(ImageSpecTest, TravelsWhole) {
  ImageSpec spec;
  spec.store.url = "s3://bucket/prefix";
  spec.store.s3_path_style = true;
  spec.machine = os::random_id<MachineId>();
  spec.point = os::random_id<PointId>();
  spec.disk_index = 2;
  spec.cache_directory = "/some where";
  spec.cache_size_bytes = 77;
  spec.box_secret_key = crypto::SecretKey::random();
  const Bytes text = encode_image_spec(spec);
  const auto back = decode_image_spec(text);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->store.url, spec.store.url);
  EXPECT_EQ(back->store.s3_path_style, spec.store.s3_path_style);
  EXPECT_EQ(back->store.s3_sha256_checksums, std::nullopt);
  EXPECT_EQ(back->machine, spec.machine);
  EXPECT_EQ(back->point, spec.point);
  EXPECT_EQ(back->disk_index, 2u);
  EXPECT_EQ(back->cache_size_bytes, 77u);
  EXPECT_TRUE(std::ranges::equal(back->box_secret_key.bytes(), spec.box_secret_key.bytes()));
  for (size_t size = 0; size < text.size(); ++size)
    EXPECT_FALSE(decode_image_spec(ByteSpan(text).first(size)).ok());
}

}  // namespace
}  // namespace reclo::image
