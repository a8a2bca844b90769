#include "disk/partition_table.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "disk/boot_layout.h"
#include "disk/test_images.h"

namespace reclo::disk {
namespace {

using namespace testing;

PartitionTable table_of(const std::string& path) {
  auto source = must_open(path);
  auto table = read_partition_table(readable_of(*source));
  EXPECT_TRUE(table.ok());
  return table.ok() ? std::move(table).value() : PartitionTable();
}
BootLayout layout_of(const std::string& path) {
  auto source = must_open(path);
  auto layout = find_boot_layout(readable_of(*source));
  EXPECT_TRUE(layout.ok());
  return layout.ok() ? std::move(layout).value() : BootLayout();
}

class PartitionTables : public ::testing::Test {
 protected:
  void make(uint64_t size_bytes, const std::string& script, const std::string& flags = "") {
    make_sparse_file(disk_, 0);
    make_sparse_file(disk_, size_bytes);
    shell("printf '" + script + "' | sfdisk -q " + flags + " " + disk_);
  }
  const ImageFolder folder_;
  const std::string disk_ = folder_.path("disk");
};

TEST_F(PartitionTables, Gpt) {
  make(64 * kMiB,
       "label: gpt\\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\\n"
       "size=20MiB,type=U\\ntype=L\\n");
  const PartitionTable table = table_of(disk_);
  EXPECT_EQ(table.kind, "gpt");
  EXPECT_EQ(table.damage, "");
  ASSERT_EQ(table.partitions.size(), 3U);
  EXPECT_EQ(table.partitions[0].range, (Range{kMiB, kMiB}));
  EXPECT_EQ(table.partitions[1].range, (Range{2 * kMiB, 20 * kMiB}));
  EXPECT_TRUE(table.partitions[1].is_efi_system);
  EXPECT_FALSE(table.partitions[2].is_efi_system);
  const BootLayout layout = layout_of(disk_);
  EXPECT_EQ(layout.table, "gpt");
  EXPECT_TRUE(layout.uefi_bootable);
  EXPECT_FALSE(layout.bios_bootable);
  patch_file(disk_, 0, as_bytes("\xeb\x63\x90"));
  EXPECT_TRUE(layout_of(disk_).bios_bootable);
}

TEST_F(PartitionTables, GptBackupCountsOnlyWhereTheDiskSaysGpt) {
  make(64 * kMiB, "label: gpt\\nsize=20MiB,type=U\\ntype=L\\n");
  patch_file(disk_, 512, noise(64, 1));
  const PartitionTable table = table_of(disk_);
  EXPECT_EQ(table.partitions.size(), 2U);
  EXPECT_TRUE(table.from_backup);
  EXPECT_EQ(table.damage, "");
  // Entries damaged, headers whole: the checksum tells.
  make(64 * kMiB, "label: gpt\\nsize=20MiB,type=U\\ntype=L\\n");
  patch_file(disk_, 1024 + 40, noise(2, 1));
  EXPECT_TRUE(table_of(disk_).from_backup);
  // Both headers gone.
  patch_file(disk_, 512, Bytes(512));
  patch_file(disk_, 64 * kMiB - 512, Bytes(512));
  EXPECT_NE(table_of(disk_).damage, "");
  // The first sector says nothing of a GPT: what is at the end is from an older life.
  make(64 * kMiB, "label: gpt\\nsize=20MiB,type=U\\ntype=L\\n");
  patch_file(disk_, 0, Bytes(1024));
  EXPECT_EQ(table_of(disk_).kind, "none");
}

TEST_F(PartitionTables, GptWithLargeSectors) {
  make_sparse_file(disk_, 64 * kMiB);
  {
    const LoopDevice loop(disk_, "--sector-size=4096");
    shell("printf 'label: gpt\\nsize=8MiB,type=U\\nsize=16MiB,type=L\\n' | sfdisk -q --no-reread " +
          loop.path());
  }
  const PartitionTable table = table_of(disk_);
  EXPECT_EQ(table.damage, "");
  ASSERT_EQ(table.partitions.size(), 2U);
  EXPECT_EQ(table.partitions[0].range, (Range{kMiB, 8 * kMiB}));
  EXPECT_EQ(table.partitions[1].range.size_bytes, 16 * kMiB);
  EXPECT_TRUE(layout_of(disk_).uefi_bootable);
}

TEST_F(PartitionTables, MbrWithLogicalPartitions) {
  make(128 * kMiB,
       "label: dos\\nsize=10MiB,type=ef\\nsize=20MiB,type=83\\ntype=5\\nsize=10MiB,type=83\\n"
       "size=20MiB,type=82\\nsize=5MiB,type=83\\n");
  const PartitionTable table = table_of(disk_);
  EXPECT_EQ(table.kind, "mbr");
  EXPECT_EQ(table.damage, "");
  ASSERT_EQ(table.partitions.size(), 5U);
  EXPECT_EQ(table.partitions[0].mbr_type, 0xEF);
  EXPECT_EQ(table.partitions[2].range.size_bytes, 10 * kMiB);
  EXPECT_EQ(table.partitions[3].mbr_type, 0x82);
  EXPECT_EQ(table.partitions[4].range.size_bytes, 5 * kMiB);
  EXPECT_TRUE(layout_of(disk_).uefi_bootable);
}

// A sector of a chain: a logical partition, and a link, both in sectors.
Bytes chain_sector(uint32_t next_start) {
  Bytes sector(512);
  sector[446 + 4] = 0x83;
  store_le<uint32_t>(&sector[446 + 8], 1);
  store_le<uint32_t>(&sector[446 + 12], 1);
  sector[462 + 4] = 0x05;
  store_le<uint32_t>(&sector[462 + 8], next_start);
  store_le<uint32_t>(&sector[462 + 12], 8);
  sector[510] = 0x55;
  sector[511] = 0xAA;
  return sector;
}

TEST_F(PartitionTables, AChainThatRunsInCirclesEnds) {
  make(64 * kMiB, "label: dos\\ntype=5\\n");
  const PartitionTable empty = table_of(disk_);
  EXPECT_EQ(empty.partitions.size(), 0U);
  patch_file(disk_, kMiB, chain_sector(100));
  patch_file(disk_, kMiB + 100 * 512, chain_sector(200));
  patch_file(disk_, kMiB + 200 * 512, chain_sector(100));
  const PartitionTable table = table_of(disk_);
  EXPECT_NE(table.damage, "");
  EXPECT_LE(table.partitions.size(), kPartitionsMax);
}

TEST_F(PartitionTables, WhatMakesNoSenseIsDamage) {
  make(64 * kMiB, "label: dos\\nsize=10MiB,type=83\\nsize=10MiB,type=83\\n");
  EXPECT_EQ(table_of(disk_).damage, "");
  Bytes start(4);
  store_le<uint32_t>(start.data(), 4096);
  patch_file(disk_, 446 + 16 + 8, start);
  EXPECT_EQ(table_of(disk_).damage, "partitions overlap");
  store_le<uint32_t>(start.data(), 0xFFFFFFF0);
  patch_file(disk_, 446 + 16 + 8, start);
  EXPECT_NE(table_of(disk_).damage.find("outside"), std::string::npos);
  // A disk that lost its end.
  make(64 * kMiB, "label: gpt\\ntype=L\\n");
  make_sparse_file(disk_, 32 * kMiB);
  EXPECT_NE(table_of(disk_).damage, "");
}

TEST_F(PartitionTables, NoTableAtAll) {
  make_sparse_file(disk_, 16 * kMiB);
  EXPECT_EQ(table_of(disk_).kind, "none");
  run({"mkfs.vfat", disk_});  // has the signature of a boot sector, but no partitions
  EXPECT_EQ(table_of(disk_).kind, "none");
  make_sparse_file(folder_.path("tiny"), 100);
  EXPECT_EQ(layout_of(folder_.path("tiny")).table, "none");
}

}  // namespace
}  // namespace reclo::disk
