#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/sealing.h"
#include "os/file.h"
#include "os/random.h"
#include "recovery/ec2/prepared_source.h"
#include "recovery/guest/cpio.h"
#include "recovery/guest/guest_facts.h"
#include "recovery/guest/initramfs.h"
#include "recovery/guest/kernel_modules.h"
#include "recovery/guest/prepared_overlay.h"
#include "recovery/guest/read_log.h"

namespace reclo::recovery {
namespace {

using ::testing::ElementsAre;

// Reads kmod's index as libkmod does: prefix, children, values.
std::vector<std::string> look_up(const Bytes& index, const std::string& key) {
  const auto be32 = [&](size_t at) {
    return (uint32_t{index.at(at)} << 24) | (uint32_t{index.at(at + 1)} << 16) |
           (uint32_t{index.at(at + 2)} << 8) | index.at(at + 3);
  };
  uint32_t node = be32(8);
  size_t matched = 0;
  while (node != 0) {
    size_t at = node & 0x0fffffff;
    if ((node & 0x80000000) != 0) {
      for (; index.at(at) != 0; ++at, ++matched)
        if (matched >= key.size() || key[matched] != static_cast<char>(index[at])) return {};
      ++at;
    }
    uint32_t next = 0;
    if ((node & 0x20000000) != 0) {
      const uint8_t first = index.at(at);
      const uint8_t last = index.at(at + 1);
      at += 2;
      if (matched < key.size() && static_cast<uint8_t>(key[matched]) >= first &&
          static_cast<uint8_t>(key[matched]) <= last)
        next = be32(at + 4 * (static_cast<uint8_t>(key[matched]) - first));
      at += 4 * (last - first + 1u);
    }
    if (matched == key.size()) {
      std::vector<std::string> values;
      if ((node & 0x40000000) == 0) return values;
      uint32_t count = be32(at);
      at += 4;
      for (; count > 0; --count) {
        at += 4;
        const std::string value(reinterpret_cast<const char*>(&index.at(at)));
        at += value.size() + 1;
        values.push_back(value);
      }
      return values;
    }
    ++matched;
    node = next;
  }
  return {};
}

TEST(KernelModulesTest, TheIndexAnswersAsKmodAsks) {
  const Bytes index = encode_index({{"nvme", "kernel/nvme.ko: kernel/nvme-core.ko"},
                                    {"nvme_core", "kernel/nvme-core.ko:"},
                                    {"ahci", "kernel/ahci.ko:"},
                                    {"alias", "one"},
                                    {"alias", "two"}});
  EXPECT_THAT(look_up(index, "nvme"), ElementsAre("kernel/nvme.ko: kernel/nvme-core.ko"));
  EXPECT_THAT(look_up(index, "nvme_core"), ElementsAre("kernel/nvme-core.ko:"));
  EXPECT_THAT(look_up(index, "alias"), ElementsAre("one", "two"));
  EXPECT_TRUE(look_up(index, "nvm").empty());
  EXPECT_TRUE(look_up(index, "zzz").empty());
  EXPECT_TRUE(look_up(encode_index({}), "x").empty());
}

TEST(KernelModulesTest, DependenciesComeFirst) {
  const KernelModules kernel = parse_modules(
      "a/x.ko: a/y-z.ko.zst b/w.ko\na/y-z.ko.zst: b/w.ko\nb/w.ko:\n../bad.ko:\nrubbish", "b/w.ko\n",
      "alias pci:* x\n# no\nbad line\n");
  EXPECT_THAT(with_dependencies(kernel, {"x", "missing"}), ElementsAre("y_z", "x"));
  EXPECT_EQ(kernel.aliases.size(), 1u);
  EXPECT_FALSE(kernel.has("bad"));
}

TEST(InitramfsTest, BrokenOnesAreErrors) {
  CpioWriter writer;
  writer.add_file("a", as_bytes("content"));
  Bytes whole = std::move(writer).finish();
  EXPECT_TRUE(scan_initramfs(whole).ok());
  for (const size_t size : {size_t{50}, size_t{112}, whole.size() - 20})
    EXPECT_FALSE(scan_initramfs(ByteSpan(whole).first(size)).ok()) << size;
  whole[60] = 'x';
  EXPECT_FALSE(scan_initramfs(whole).ok());
}

GuestFacts two_disks() {
  GuestFacts facts;
  facts.volumes = {{"/dev/sda1", 0, 1, "ext4", "AAAA-1", "boot", "p1"},
                   {"/dev/sdb2", 1, 2, "ext4", "b2", "", "p2"},
                   {"/dev/my-vg/root", -1, 0, "ext4", "c3", "", ""}};
  return facts;
}

TEST(GuestFactsTest, DevicesAreFoundByEveryName) {
  const GuestFacts facts = two_disks();
  const auto device = [&](std::string_view spec) {
    const GuestVolume* const volume = resolve_device(facts, spec);
    return volume == nullptr ? std::string("none") : volume->device;
  };
  for (const char* spec :
       {"/dev/sda1", "/dev/vda1", "/dev/nvme0n1p1", "/dev/mmcblk0p1", "/dev/xvda1", "UUID=aaaa-1",
        "UUID=\"AAAA-1\"", "LABEL=boot", "PARTUUID=P1", "/dev/disk/by-uuid/AAAA-1"})
    EXPECT_EQ(device(spec), "/dev/sda1") << spec;
  EXPECT_EQ(device("/dev/hdb2"), "/dev/sdb2");
  EXPECT_EQ(device("/dev/mapper/my--vg-root"), "/dev/my-vg/root");
  EXPECT_EQ(device("/dev/my-vg/root"), "/dev/my-vg/root");
  for (const char* spec : {"/dev/sdc1", "/dev/sda", "/dev/sdaaaa1", "UUID=", "LABEL=", "tmpfs",
                           "/dev/sda99999999999", "/dev/nvme0p1", ""})
    EXPECT_EQ(device(spec), "none") << spec;
  EXPECT_TRUE(is_named_by_place("/dev/sdc1"));
  EXPECT_FALSE(is_named_by_place("/dev/my-vg/root"));
}

TEST(ReadLogTest, ReadsBecomePages) {
  std::vector<disk::Range> ranges;
  add_reads(
      "2026 connection=2 Read id=1 offset=0x1200 count=0x200 ...\n"
      "2026 connection=2 ...Read id=1 return=0\n"
      "2026 connection=2 Extents id=2 offset=0x0 count=0xa00000 ...\n"
      "2026 connection=2 Read id=3 offset=0x2000 count=0x1000 ...\nrubbish Read offset=0xzz",
      ranges);
  EXPECT_THAT(merge_ranges(ranges, 1 << 20), ElementsAre(disk::Range{0x1000, 0x2000}));
  EXPECT_TRUE(ranges_overlap({{0, 4096}, {8192, 4096}}, {{12000, 100}}));
  EXPECT_FALSE(ranges_overlap({{0, 4096}, {8192, 4096}}, {{4096, 4096}, {12288, 1}}));
}

class PreparedOverlayTest : public ::testing::Test {
 protected:
  PreparedOverlayTest() : folder(os::TempDir::create("prepared").value()) {
    path = folder.path() + "/ec2.overlay";
  }
  PreparedRecord write() {
    PreparedWriter writer = PreparedWriter::create(path, box).value();
    EXPECT_TRUE(writer.add(0, 8192, Bytes(4096, 1)).ok());
    EXPECT_TRUE(writer.add(0, 12288, Bytes(4096, 2)).ok());
    EXPECT_TRUE(writer.add(1, 4096, Bytes(100, 3)).ok());
    PreparedRecord record;
    record.point = "0123";
    record.disk_sizes_bytes = {65536, 4196};
    record.fixes = {{"fstab", true, "why", {"/etc/fstab"}, ""}};
    record.reads = {{0, {0, 4096}}};
    EXPECT_TRUE(writer.finish(record).ok());
    return record;
  }
  os::TempDir folder;
  std::string path;
  crypto::SecretKey box = crypto::SecretKey::random();
};

TEST_F(PreparedOverlayTest, LaysItsPagesOverThePoint) {
  const PreparedRecord record = write();
  const auto overlay = PreparedOverlay::open(path, box).value();
  EXPECT_EQ(overlay->record(), record);
  EXPECT_THAT(overlay->ranges(0), ElementsAre(disk::Range{8192, 8192}));
  Bytes out(8192, 9);
  ASSERT_TRUE(overlay->read(0, 10240, out).ok());
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[2047], 1);
  EXPECT_EQ(out[2048], 2);
  EXPECT_EQ(out[6143], 2);
  EXPECT_EQ(out[6144], 9);
  Bytes tail(196, 9);
  ASSERT_TRUE(overlay->read(1, 4000, tail).ok());
  EXPECT_EQ(tail[95], 9);
  EXPECT_EQ(tail[96], 3);
}

TEST_F(PreparedOverlayTest, IsWrittenOverARestoredDisk) {
  write();
  const auto overlay = PreparedOverlay::open(path, box).value();
  const std::string disk = folder.path() + "/disk";
  ASSERT_TRUE(os::write_file_durably(disk, Bytes(65536, 9)).ok());
  ASSERT_TRUE(overlay->apply_to(0, disk, {}).ok());
  const Bytes content = os::read_file(disk, 1 << 20).value();
  EXPECT_EQ(content[8191], 9);
  EXPECT_EQ(content[8192], 1);
  EXPECT_EQ(content[16383], 2);
  EXPECT_EQ(content[16384], 9);
  ASSERT_TRUE(os::write_file_durably(disk, Bytes(4096, 9)).ok());
  EXPECT_EQ(overlay->apply_to(0, disk, {}).error().code(), Code::kInvalidArgument);
}

TEST_F(PreparedOverlayTest, DamageAndOtherKeysAreNoticed) {
  write();
  EXPECT_EQ(PreparedOverlay::open(path, crypto::SecretKey::random()).error().code(),
            Code::kCorruption);
  const Bytes whole = os::read_file(path, 1 << 20).value();
  EXPECT_EQ(as_text(whole).find("fstab"), std::string_view::npos) << "clear text on the disk";
  for (size_t at = 0; at < whole.size(); at += 97) {
    Bytes damaged = whole;
    damaged[at] ^= 1;
    ASSERT_TRUE(os::write_file_durably(path, damaged).ok());
    const auto overlay = PreparedOverlay::open(path, box);
    if (!overlay.ok()) continue;
    Bytes first(8192);
    Bytes second(100);
    EXPECT_FALSE((*overlay)->read(0, 8192, first).ok() && (*overlay)->read(1, 4096, second).ok())
        << "byte " << at;
  }
  ASSERT_TRUE(os::write_file_durably(path, ByteSpan(whole).first(whole.size() - 1)).ok());
  EXPECT_FALSE(PreparedOverlay::open(path, box).ok());
}

}  // namespace
}  // namespace reclo::recovery
