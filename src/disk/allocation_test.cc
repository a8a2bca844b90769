#include "disk/allocation.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/units.h"
#include "disk/test_images.h"

namespace reclo::disk {
namespace {

using namespace testing;

Allocation allocation_of(const std::string& path) {
  auto source = must_open(path);
  auto found = find_allocation(*source, test_limit());
  EXPECT_TRUE(found.ok()) << (found.ok() ? "" : found.error().message());
  return found.ok() ? std::move(found).value() : Allocation();
}

void expect_well_formed(const Allocation& allocation, uint64_t disk_size_bytes) {
  uint64_t at = 0;
  uint64_t sum = 0;
  for (const Range& range : allocation.skippable) {
    ASSERT_GT(range.size_bytes, 0U);
    ASSERT_EQ(range.offset_bytes % 4096, 0U);
    ASSERT_EQ(range.size_bytes % 4096, 0U);
    ASSERT_TRUE(sum == 0 || range.offset_bytes > at);
    at = range.end_bytes();
    sum += range.size_bytes;
  }
  ASSERT_LE(at, disk_size_bytes);
  EXPECT_EQ(sum, allocation.skippable_bytes);
  uint64_t by_volume = 0;
  for (const Volume& volume : allocation.volumes) by_volume += volume.free_bytes;
  EXPECT_EQ(by_volume, sum);
}

// Copies what must be read; everything skippable becomes noise, the worst a target could hold.
void copy_without_skippable(const std::string& from, const std::string& to) {
  const Allocation allocation = allocation_of(from);
  auto source = must_open(from);
  expect_well_formed(allocation, source->size_bytes());
  Bytes content = must_read(*source, 0, source->size_bytes());
  const Bytes rubbish = noise(4096, 17);
  for (const Range& range : allocation.skippable) {
    for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += 4096)
      std::copy(rubbish.begin(), rubbish.end(), content.begin() + static_cast<ptrdiff_t>(at));
  }
  std::ofstream(to, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}

// One line per file with its digest, metadata included.
std::string digest_of_files(const std::string& image, const std::string& mount_point) {
  const LoopDevice loop(image);
  const Mount mount(loop.path(), mount_point);
  return shell("cd " + mount.where() +
               " && find . -path ./lost+found -prune -o -printf '%p %s %m %T@ %l\\n' | sort &&"
               " find . -type f -print0 | sort -z | xargs -0 -r sha256sum");
}

// Many files of several sizes, holes between them, and new ones in the holes.
const std::string kChurn = R"(
  head -c 5M /dev/urandom | split -a 3 -d -b 61234 - f
  head -c 600K /dev/urandom | split -a 3 -d -b 3001 - s
  head -c 9M /dev/urandom > big; ln -s big link; mkdir d; mv s1* d
  rm f0?[0369] s0?[02468]; truncate -s 3M big; fallocate -l 2M prealloc || true
  head -c 4M /dev/urandom | split -a 2 -d -b 151123 - g
)";

struct ExtCase {
  std::string name;
  std::vector<std::string> options;
  uint64_t size_bytes = 48 * kMiB;
};

class ExtAllocation : public ::testing::TestWithParam<ExtCase> {
 protected:
  void make() {
    make_sparse_file(image_, GetParam().size_bytes);
    std::vector<std::string> argv = {"mke2fs", "-q", "-F"};
    argv.insert(argv.end(), GetParam().options.begin(), GetParam().options.end());
    argv.push_back(image_);
    run(argv);
  }
  const ImageFolder folder_;
  const std::string image_ = folder_.path("fs.img");
};

TEST_P(ExtAllocation, WithoutFreeBlocksACleanFileSystemIsTheSame) {
  make();
  {
    const LoopDevice loop(image_);
    const Mount mount(loop.path(), folder_.path("m"));
    shell("cd " + mount.where() + kChurn);
  }
  const Allocation allocation = allocation_of(image_);
  ASSERT_EQ(allocation.volumes.size(), 1U);
  EXPECT_EQ(allocation.volumes[0].note, "");
  EXPECT_EQ(allocation.volumes[0].kind.substr(0, 3), "ext");
  EXPECT_EQ(allocation.volumes[0].uuid.size(), 36U);
  EXPECT_GT(allocation.skippable_bytes, GetParam().size_bytes / 3);
  const std::string copy = folder_.path("copy.img");
  copy_without_skippable(image_, copy);
  run({"e2fsck", "-fn", copy});
  EXPECT_EQ(digest_of_files(copy, folder_.path("m")), digest_of_files(image_, folder_.path("m")));
}

// The state of the disk while the file system is in use, as a snapshot would see it.
TEST_P(ExtAllocation, WithoutFreeBlocksAFileSystemInUseIsTheSameAfterReplay) {
  make();
  const std::string live = folder_.path("live.img");
  const std::string copy = folder_.path("copy.img");
  {
    const LoopDevice loop(image_);
    // No commits by the clock: nothing is written while the image is copied.
    const bool has_commits = GetParam().name != "ext2";
    const Mount mount(loop.path(), folder_.path("m"), has_commits ? "commit=300" : "defaults");
    shell("cd " + mount.where() + kChurn + "sync -f .; rm f005 g01; " +
          "head -c 3M /dev/urandom > synced; sync synced; head -c 1M /dev/urandom > unsynced; " +
          "for i in 1 2 3 4 5 6; do head -c 700K /dev/urandom > t$i; sync t$i; rm -f t$((i-2)); "
          "done");
    shell("fsfreeze -f " + mount.where() + "; trap 'fsfreeze -u " + mount.where() +
          "' EXIT; cp --sparse=never " + image_ + " " + live + ".frozen");
    // Not frozen: journal only partly written back.
    shell("cd " + mount.where() +
          "; for i in 1 2 3 4; do head -c 900K /dev/urandom > u$i; sync u$i; done; cp "
          "--sparse=never " +
          image_ + " " + live);
  }
  const bool has_journal =
      shell("dumpe2fs -h " + live + " 2>/dev/null").find("has_journal") != std::string::npos;
  const Allocation allocation = allocation_of(live);
  if (!has_journal) {
    EXPECT_EQ(allocation.skippable_bytes, 0U);
    EXPECT_NE(allocation.volumes[0].note, "");
    return;
  }
  EXPECT_NE(shell("dumpe2fs -h " + live + " 2>/dev/null").find("needs_recovery"),
            std::string::npos);
  EXPECT_EQ(allocation.volumes[0].note, "");
  EXPECT_GT(allocation.skippable_bytes, GetParam().size_bytes / 4);
  for (const std::string& state : {live, live + ".frozen"}) {
    copy_without_skippable(state, copy);
    shell("e2fsck -fy " + copy + " >/dev/null || [ $? -le 1 ]");
    shell("e2fsck -fy " + state + " >/dev/null || [ $? -le 1 ]");
    run({"e2fsck", "-fn", copy});
    EXPECT_EQ(digest_of_files(copy, folder_.path("m")), digest_of_files(state, folder_.path("m")));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ExtAllocation,
    ::testing::Values(
        ExtCase{"ext4_4k", {"-t", "ext4", "-b", "4096"}, 160 * kMiB},
        ExtCase{"ext4_1k", {"-t", "ext4", "-b", "1024"}}, ExtCase{"ext3", {"-t", "ext3"}},
        ExtCase{"ext2", {"-t", "ext2"}},
        ExtCase{"bigalloc", {"-t", "ext4", "-O", "bigalloc", "-C", "16384"}},
        ExtCase{"meta_bg", {"-t", "ext4", "-O", "meta_bg,^resize_inode"}},
        ExtCase{"no_csum", {"-t", "ext4", "-O", "^metadata_csum,uninit_bg"}},
        ExtCase{"plain32", {"-t", "ext4", "-O", "^64bit,^metadata_csum,^flex_bg,^uninit_bg"}},
        ExtCase{"small_groups", {"-t", "ext4", "-b", "1024", "-g", "1024", "-O", "^flex_bg"}}),
    [](const auto& each) { return each.param.name; });

TEST(Allocation, PartitionsEachGetTheirOwn) {
  const ImageFolder folder;
  const std::string disk = folder.path("disk");
  make_sparse_file(disk, 300 * kMiB);
  shell(
      "printf 'label: gpt\\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\\n"
      "size=20MiB,type=U\\nsize=100MiB,type=L\\nsize=60MiB,type=S\\ntype=L\\n' | sfdisk -q " +
      disk);
  shell("cd " + folder.folder() +
        "; truncate -s 100M a; mke2fs -q -t ext4 -L root a; dd if=a of=disk bs=1M seek=22 "
        "conv=notrunc status=none;"
        "truncate -s 60M s; mkswap -q -L sw s; dd if=s of=disk bs=1M seek=122 conv=notrunc "
        "status=none;"
        "truncate -s 20M v; mkfs.vfat -n EFI v >/dev/null; dd if=v of=disk bs=1M seek=2 "
        "conv=notrunc status=none");
  const Allocation allocation = allocation_of(disk);
  expect_well_formed(allocation, 300 * kMiB);
  ASSERT_EQ(allocation.volumes.size(), 5U);
  EXPECT_EQ(allocation.volumes[0].kind, "unknown");
  EXPECT_EQ(allocation.volumes[1].kind, "vfat");
  EXPECT_EQ(allocation.volumes[1].label, "EFI");
  EXPECT_EQ(allocation.volumes[1].free_bytes, 0U);
  EXPECT_EQ(allocation.volumes[2].kind, "ext4");
  EXPECT_EQ(allocation.volumes[2].label, "root");
  EXPECT_GT(allocation.volumes[2].free_bytes, 80 * kMiB);
  EXPECT_EQ(allocation.volumes[3].kind, "swap");
  EXPECT_EQ(allocation.volumes[3].free_bytes, 60 * kMiB - 4096);
  EXPECT_EQ(allocation.volumes[3].table, "gpt");
  EXPECT_EQ(allocation.volumes[4].kind, "unknown");
  EXPECT_EQ(allocation.volumes[4].free_bytes, 0U);
}

TEST(Allocation, WorksThroughQcow2) {
  const ImageFolder folder;
  shell("cd " + folder.folder() +
        "; truncate -s 64M a; mke2fs -q -t ext4 a; qemu-img convert -O qcow2 a q");
  const Allocation raw = allocation_of(folder.path("a"));
  const Allocation qcow2 = allocation_of(folder.path("q"));
  EXPECT_GT(raw.skippable_bytes, 40 * kMiB);
  EXPECT_EQ(raw.skippable, qcow2.skippable);
}

TEST(Allocation, AHibernatedMachinesSwapIsKept) {
  const ImageFolder folder;
  const std::string swap = folder.path("swap");
  make_sparse_file(swap, 8 * kMiB);
  run({"mkswap", "-q", swap});
  EXPECT_EQ(allocation_of(swap).skippable_bytes, 8 * kMiB - 4096);
  patch_file(swap, 4096 - 10, as_bytes(std::string_view("S1SUSPEND\0", 10)));
  const Allocation allocation = allocation_of(swap);
  EXPECT_EQ(allocation.skippable_bytes, 0U);
  EXPECT_NE(allocation.volumes[0].note.find("hibernated"), std::string::npos);
}

// Leftovers of an older use must never decide what is left out.
TEST(Allocation, LeftoversAreNotBelieved) {
  const ImageFolder folder;
  const std::string disk = folder.path("disk");
  // mdraid 1.2 (its superblock at 4 KiB) made over ext4.
  make_sparse_file(disk, 64 * kMiB);
  run({"mke2fs", "-q", "-t", "ext4", disk});
  Bytes md(256);
  store_le<uint32_t>(&md[0], 0xa92b4efc);
  store_le<uint32_t>(&md[4], 1);
  store_le<uint64_t>(&md[80], 129024);  // data size
  store_le<uint64_t>(&md[128], 2048);   // data offset
  store_le<uint64_t>(&md[136], 129024);
  store_le<uint64_t>(&md[144], 8);  // where it is
  uint64_t sum = 0;
  for (size_t i = 0; i < md.size(); i += 4) sum += load_le<uint32_t>(&md[i]);
  store_le<uint32_t>(&md[216], static_cast<uint32_t>((sum & 0xFFFFFFFF) + (sum >> 32)));
  patch_file(disk, 4096, md);
  EXPECT_EQ(allocation_of(disk).skippable_bytes, 0U);
  EXPECT_NE(allocation_of(disk).volumes[0].kind, "ext4");

  // A partition table written over a file system that used the whole disk.
  run({"mke2fs", "-q", "-F", "-t", "ext4", disk});
  shell("printf 'label: dos\\nstart=2048,type=83\\n' | sfdisk -q --wipe never " + disk);
  shell("cd " + folder.folder() +
        "; truncate -s 63M a; mke2fs -q -t ext4 a; dd if=a of=disk bs=1M seek=1 conv=notrunc "
        "status=none");
  const Allocation both = allocation_of(disk);
  EXPECT_EQ(both.skippable_bytes, 0U);
  EXPECT_NE(both.volumes[0].note.find("whole disk"), std::string::npos);
}

TEST(Allocation, AFileSystemWithErrorsIsKept) {
  const ImageFolder folder;
  const std::string image = folder.path("a");
  make_sparse_file(image, 64 * kMiB);
  run({"mke2fs", "-q", "-t", "ext4", image});
  shell("debugfs -w -R 'ssv state 2' " + image + " 2>/dev/null");
  EXPECT_EQ(allocation_of(image).skippable_bytes, 0U);
  EXPECT_NE(allocation_of(image).volumes[0].note.find("errors"), std::string::npos);
}

TEST(Allocation, AGroupWithAWrongBitmapIsKept) {
  const ImageFolder folder;
  const std::string image = folder.path("a");
  make_sparse_file(image, 400 * kMiB);
  run({"mke2fs", "-q", "-t", "ext4", "-b", "4096", image});
  const uint64_t before = allocation_of(image).skippable_bytes;
  const std::string where =
      shell("dumpe2fs " + image +
            " 2>/dev/null | grep -m1 -o 'Block bitmap at [0-9]*' | grep -o '[0-9]*$'");
  patch_file(image, std::stoull(where) * 4096 + 100, noise(16, 1));
  const Allocation allocation = allocation_of(image);
  EXPECT_LT(allocation.skippable_bytes, before);
  EXPECT_GT(allocation.skippable_bytes, 0U);
  EXPECT_NE(allocation.volumes[0].note.find("block groups are kept"), std::string::npos);
}

TEST(Allocation, NoiseAndBitFlipsCostCoverageOnly) {
  const ImageFolder folder;
  const std::string image = folder.path("a");
  make_sparse_file(image, 16 * kMiB);
  run({"mke2fs", "-q", "-t", "ext4", image});
  const Bytes super = must_read(*must_open(image), 1024, 1024);
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Bytes broken = super;
    const Bytes dice = noise(8, seed);
    broken[load_le<uint16_t>(&dice[0]) % 0x180] = dice[2];
    broken[load_le<uint16_t>(&dice[4]) % 0x180] = dice[6];
    patch_file(image, 1024, broken);
    expect_well_formed(allocation_of(image), 16 * kMiB);
  }
  patch_file(image, 0, noise(16 * kMiB, 99));
  EXPECT_EQ(allocation_of(image).skippable_bytes, 0U);
}

class FailingSource final : public BlockSource {
 public:
  uint64_t size_bytes() const override { return 64 * kMiB; }
  Status read_at(uint64_t, MutableByteSpan) override { return Error(Code::kIo, "EIO at byte 0"); }
  Result<std::vector<Range>> data_ranges(Range range) override { return std::vector<Range>{range}; }
  std::string path() const override { return "failing"; }
  std::string format() const override { return "raw"; }
};

TEST(Allocation, AReadErrorIsAnError) {
  FailingSource source;
  const auto found = find_allocation(source, test_limit());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code(), Code::kIo);
}

}  // namespace
}  // namespace reclo::disk
