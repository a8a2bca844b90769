#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recovery/guest/cpio.h"
#include "recovery/guest/fix.h"
#include "recovery/guest/initramfs.h"
#include "recovery/guest/testing/memory_files.h"

namespace reclo::recovery {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using testing::MemoryFiles;
using ::testing::Not;

constexpr const char* kVersion = "6.1.0-9-amd64";

// A server with a kernel whose initramfs has no driver for other machines' disks.
class FixesTest : public ::testing::Test {
 protected:
  FixesTest() {
    const std::string modules = std::string("/usr/lib/modules/") + kVersion;
    files.put(modules + "/modules.dep",
              "kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz\n"
              "kernel/drivers/nvme/host/nvme-core.ko.xz:\n"
              "kernel/drivers/net/ena/ena.ko.xz:\n"
              "kernel/drivers/block/virtio_blk.ko.xz:\n");
    files.put(modules + "/modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n");
    files.put(modules + "/modules.alias", "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n");
    for (const char* name : {"drivers/nvme/host/nvme", "drivers/nvme/host/nvme-core",
                             "drivers/net/ena/ena", "drivers/block/virtio_blk"})
      files.put(modules + "/kernel/" + name + ".ko.xz", name);
    files.put(std::string("/boot/vmlinuz-") + kVersion, "kernel");
    CpioWriter archive;
    archive.add_folder("usr");
    archive.add_file("conf/arch.conf", as_bytes("x"));
    archive.add_file("conf/modules", as_bytes("ahci\n"));
    archive.add_file(std::string("usr/lib/modules/") + kVersion + "/kernel/ahci.ko",
                     as_bytes("ahci"));
    initramfs = std::move(archive).finish();
    files.put(initramfs_path, as_text(initramfs));
    files.put("/etc/fstab", "# kept\nUUID=aaaa / ext4 defaults 0 1\n");
    facts.volumes = {{"/dev/sda1", 0, 1, "vfat", "E5F0-0001", "", ""},
                     {"/dev/sda2", 0, 2, "ext4", "aaaa", "root", ""},
                     {"/dev/vg-a/lv", -1, 0, "ext4", "bbbb", "", ""}};
  }

  std::vector<FixReport> run() {
    changes = std::make_unique<GuestChanges>(GuestChanges::open(files).value());
    auto reports = run_fixes({files, *changes, facts, choices});
    EXPECT_TRUE(reports.ok()) << reports.error().message();
    return reports.ok() ? *reports : std::vector<FixReport>();
  }
  FixReport run(const std::string& name) {
    for (const FixReport& report : run())
      if (report.name == name) return report;
    ADD_FAILURE() << name;
    return {};
  }

  MemoryFiles files;
  GuestFacts facts;
  PrepareChoices choices{PrepareTarget::kEc2, "", "", "office", "00ff", "2026-11-25T00:00:00Z"};
  std::unique_ptr<GuestChanges> changes;
  Bytes initramfs;
  const std::string initramfs_path = std::string("/boot/initrd.img-") + kVersion;
};

TEST_F(FixesTest, MissingDriversGoBehindTheInitramfs) {
  const FixReport report = run("initramfs-drivers");
  EXPECT_TRUE(report.needed);
  EXPECT_EQ(report.blocker, "");
  EXPECT_THAT(report.why, HasSubstr("nvme_core, nvme, virtio_blk"));
  EXPECT_THAT(report.files, Contains(initramfs_path));
  const Bytes whole = files.all()[initramfs_path].content;
  EXPECT_EQ(as_text(whole).substr(0, initramfs.size()), as_text(initramfs));
  const InitramfsFacts after = scan_initramfs(whole).value();
  EXPECT_TRUE(after.was_extended);
  EXPECT_EQ(modules_in(after).at("nvme"),
            std::string("usr/lib/modules/") + kVersion + "/kernel/drivers/nvme/host/nvme.ko.xz");
  EXPECT_EQ(after.texts.at("conf/modules"), "ahci\nnvme_core\nnvme\nvirtio_blk\n");
  // Nothing that may be a link becomes a folder.
  EXPECT_THAT(after.names, Not(Contains("lib")));
}

TEST_F(FixesTest, ASecondPreparationFindsNothingToDo) {
  run();
  const auto once = files.all();
  for (const FixReport& report : run()) {
    if (report.name == "clone-marker") continue;
    EXPECT_FALSE(report.needed) << report.name << ": " << report.why;
    EXPECT_TRUE(report.files.empty()) << report.name;
  }
  EXPECT_EQ(files.all(), once);
}

TEST_F(FixesTest, WhatWasPreparedIsTakenBackByteForByte) {
  files.put("/etc/fstab", "/dev/sda1 /boot/efi vfat defaults 0 1\n/dev/sdb1 /srv ext4 defaults\n");
  files.put("/etc/network/interfaces", "iface ens192 inet static\n  address 10.0.0.2/8\n");
  files.put("/lib/systemd/systemd-networkd", "");
  files.put("/lib/systemd/system/systemd-networkd.service", "");
  files.put("/etc/udev/rules.d/70-persistent-net.rules", "SUBSYSTEM==\"net\"");
  files.put("/boot/grub/grub.cfg", "  linux /vmlinuz root=/dev/sda2 ro quiet\n");
  files.put_folder("/var/lib");
  const auto before = files.all();
  run();
  EXPECT_NE(files.all(), before);
  const UnprepareReport report = take_back_changes(files).value();
  EXPECT_TRUE(report.left.empty()) << report.left.front();
  for (const auto& [path, file] : files.all())
    EXPECT_EQ(before.count(path), 1u) << path << " was left behind";
  EXPECT_EQ(files.all(), before);
  EXPECT_TRUE(take_back_changes(files)->restored.empty());
}

TEST_F(FixesTest, AtHomeItIsNoCopyAnyMore) {
  run();
  files.put("/etc/reclo/clone.json", "{}");  // cloud-init made it of the failover's user data
  EXPECT_THAT(take_back_changes(files)->restored, ::testing::Contains("/etc/reclo/clone.json"));
  EXPECT_EQ(files.all().count("/etc/reclo/clone.json"), 0u);
  EXPECT_EQ(files.all().count("/etc/reclo/recovered.json"), 0u);
}

TEST_F(FixesTest, WhatTheServerChangedItselfIsLeft) {
  files.put("/etc/fstab", "/dev/sda1 /boot/efi vfat defaults 0 1\n");
  run();
  files.put("/etc/fstab", "UUID=cccc / ext4 defaults 0 1\n");
  const UnprepareReport report = take_back_changes(files).value();
  ASSERT_EQ(report.left.size(), 1u);
  EXPECT_THAT(report.left.front(), HasSubstr("/etc/fstab: it was changed since"));
  EXPECT_EQ(files.text("/etc/fstab"), "UUID=cccc / ext4 defaults 0 1\n");
}

TEST_F(FixesTest, ListsOfChangesAreNotTakenOnTrust) {
  const auto one = [](const std::string& change, const std::string& path) {
    return R"({"version":1,"changes":[{"change":")" + change + R"(","path":")" + path +
           R"(","original":"/c","size_before":0,"sha256_after":""}]})";
  };
  EXPECT_TRUE(decode_changes(one("aside", "/etc/x")).ok());
  for (const std::string& text :
       {std::string(), std::string("{}"), one("moved", "/etc/x"), one("added", "etc"),
        one("aside", "/a/../../b"), one("aside", "")})
    EXPECT_EQ(decode_changes(text).error().code(), Code::kCorruption) << text;
  EXPECT_EQ(decode_changes(R"({"version":9,"changes":[]})").error().code(), Code::kUnsupported);
}

TEST_F(FixesTest, FstabNamesVolumesByThemselves) {
  files.put("/etc/fstab",
            "# comment\n"
            "/dev/sda2\t/\text4\tdefaults 0 1\n"
            "/dev/mapper/vg--a-lv /data ext4 defaults 0 2\n"
            "/dev/disk/by-path/pci-0000:00:1f.2-ata-2-part1 /old ext4 defaults 0 2\n"
            "UUID=gone /archive xfs noatime 0 2\n"
            "nas:/x /nas nfs ro 0 0\n"
            "proc /proc proc defaults 0 0\n");
  const FixReport report = run("fstab");
  EXPECT_TRUE(report.needed);
  EXPECT_EQ(files.text("/etc/fstab"),
            "# comment\n"
            "UUID=aaaa\t/\text4\tdefaults\t0\t1\n"
            "/dev/mapper/vg--a-lv /data ext4 defaults 0 2\n"
            "/dev/disk/by-path/pci-0000:00:1f.2-ata-2-part1\t/old\text4\t"
            "nofail,x-systemd.device-timeout=10s\t0\t2\n"
            "UUID=gone\t/archive\txfs\tnoatime,nofail,x-systemd.device-timeout=10s\t0\t2\n"
            "nas:/x\t/nas\tnfs\tro,nofail,_netdev,x-systemd.mount-timeout=10s\t0\t0\n"
            "proc /proc proc defaults 0 0\n");
}

TEST_F(FixesTest, KernelArgumentsWhereverTheyStand) {
  const std::string environment = "# GRUB Environment Block\nkernelopts=root=/dev/sda2 ro \n";
  files.put("/boot/grub2/grub.cfg",
            "\tlinux16 /vmlinuz root=/dev/sda2 resume=/dev/sdc1\n\tinitrd /x\n");
  files.put("/boot/grub2/grubenv", environment + std::string(1024 - environment.size(), '#'));
  files.put("/boot/loader/entries/a.conf", "title A\noptions root=UUID=aaaa ro console=ttyS0\n");
  files.put("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\n");
  run();
  EXPECT_EQ(files.text("/boot/grub2/grub.cfg"),
            "\tlinux16 /vmlinuz root=UUID=aaaa noresume nvme_core.io_timeout=4294967295 "
            "console=tty0 console=ttyS0,115200n8\n\tinitrd /x\n");
  EXPECT_EQ(files.text("/boot/loader/entries/a.conf"),
            "title A\noptions root=UUID=aaaa ro console=ttyS0 nvme_core.io_timeout=4294967295\n");
  EXPECT_EQ(files.text("/etc/default/grub"),
            "GRUB_CMDLINE_LINUX=\"quiet nvme_core.io_timeout=4294967295 console=tty0 "
            "console=ttyS0,115200n8\"\n");
  EXPECT_EQ(files.text("/boot/grub2/grubenv").size(), 1024u);
  EXPECT_THAT(files.text("/boot/grub2/grubenv"),
              HasSubstr("kernelopts=root=UUID=aaaa ro nvme_core"));
}

TEST_F(FixesTest, UefiFindsTheDistributionsLoader) {
  facts.needs_uefi = true;
  facts.esp_folder = "/boot/efi";
  files.put("/boot/efi/EFI/redhat/shimx64.efi", "shim");
  files.put("/boot/efi/EFI/redhat/grubx64.efi", "grub");
  EXPECT_TRUE(run("uefi-fallback").needed);
  EXPECT_EQ(files.text("/boot/efi/EFI/BOOT/BOOTX64.EFI"), "shim");
  EXPECT_EQ(files.text("/boot/efi/EFI/BOOT/grubx64.efi"), "grub");
  ASSERT_TRUE(take_back_changes(files).ok());
  EXPECT_EQ(files.text("/boot/efi/EFI/BOOT/BOOTX64.EFI"), "shim");  // stays at home, too
}

TEST_F(FixesTest, EveryNetworkConfigurationGetsAProfile) {
  files.put("/etc/netplan/01.yaml",
            "network:\n  ethernets:\n    ens192:\n      addresses: [10.0.0.2/8]\n");
  files.put("/usr/sbin/NetworkManager", "");
  files.put("/etc/NetworkManager/system-connections/lan.nmconnection",
            "[connection]\ntype=ethernet\n[ethernet]\nmac-address=00:11:22:33:44:55\n"
            "[ipv4]\nmethod=manual\n");
  files.put("/etc/sysconfig/network-scripts/ifcfg-ens192", "HWADDR=00:11\nIPADDR=10.0.0.2\n");
  files.put("/etc/sysconfig/network/ifcfg-eth7", "IPADDR='10.0.0.2/8'\n");
  files.put("/etc/systemd/network/10-lan.network",
            "[Match]\nName=ens192\n[Network]\nAddress=10.0.0.2/8\n");
  files.put("/etc/resolv.conf", "search office\nnameserver 10.0.0.1\n");
  run();
  for (const char* path :
       {"/etc/netplan/01.yaml", "/etc/NetworkManager/system-connections/lan.nmconnection",
        "/etc/sysconfig/network-scripts/ifcfg-ens192", "/etc/sysconfig/network/ifcfg-eth7",
        "/etc/systemd/network/10-lan.network"})
    EXPECT_FALSE(exists(files, path).value()) << path;
  EXPECT_THAT(files.text("/etc/netplan/90-reclo-fallback.yaml"), HasSubstr("driver: ena"));
  EXPECT_THAT(files.text("/etc/NetworkManager/system-connections/reclo-fallback.nmconnection"),
              HasSubstr("driver=ena;virtio_net;"));
  EXPECT_THAT(files.text("/etc/systemd/network/99-reclo-fallback.network"),
              HasSubstr("Driver=ena virtio_net"));
  EXPECT_THAT(files.text("/etc/sysconfig/network/ifcfg-eth0"), HasSubstr("dhcp"));
  EXPECT_EQ(files.text("/etc/resolv.conf"),
            "nameserver 169.254.169.253\nsearch office\nnameserver 10.0.0.1\n");
}

TEST_F(FixesTest, UnderQemuAddressesStay) {
  choices.target = PrepareTarget::kQemu;
  const std::string text = "iface ens192 inet static\n  address 10.0.0.2/8\n";
  files.put("/etc/network/interfaces", text);
  files.put("/lib/systemd/systemd-networkd", "");
  files.put("/etc/resolv.conf", "nameserver 10.0.0.1\n");
  run();
  EXPECT_EQ(files.text("/etc/network/interfaces"), text);
  EXPECT_EQ(files.text("/etc/resolv.conf"), "nameserver 10.0.0.1\n");
  EXPECT_THAT(files.text("/etc/systemd/network/99-reclo-fallback.network"),
              HasSubstr("Name=!ens192"));
}

TEST_F(FixesTest, IdentityStaysAndExtrasAreAdded) {
  files.put("/etc/machine-id", "id");
  files.put("/etc/ssh/ssh_host_ed25519_key", "key");
  files.put("/etc/cloud/cloud.cfg", "");
  files.put("/usr/lib/systemd/systemd", "");
  files.put("/etc/passwd", "root");
  files.all()["/etc/passwd"].attributes["security.selinux"] = to_bytes("etc_t");
  choices.ssh_key = "ssh-ed25519 AAAA me";
  choices.first_boot_script = "#!/bin/sh\n";
  run();
  EXPECT_EQ(files.text("/etc/machine-id"), "id");
  EXPECT_EQ(files.text("/etc/ssh/ssh_host_ed25519_key"), "key");
  EXPECT_EQ(files.text("/root/.ssh/authorized_keys"), "ssh-ed25519 AAAA me\n");
  EXPECT_EQ(files.all()["/root/.ssh/authorized_keys"].mode, 0600u);
  EXPECT_EQ(files.all()["/usr/local/lib/reclo/first-boot"].mode, 0700u);
  EXPECT_THAT(files.text("/etc/cloud/cloud.cfg.d/99-reclo.cfg"),
              HasSubstr("ssh_deletekeys: false"));
  EXPECT_THAT(files.text("/etc/reclo/recovered.json"), HasSubstr("\"from_point\": \"00ff\""));
}

TEST_F(FixesTest, WhatCannotStartSaysWhy) {
  files.all().erase(std::string("/boot/vmlinuz-") + kVersion);
  EXPECT_THAT(blockers(run()), HasSubstr("no kernel in /boot"));
  files.put("/boot/vmlinuz-5.5.5", "kernel");
  EXPECT_THAT(blockers(run()), HasSubstr("kernel 5.5.5 has no driver nvme"));
  facts.has_boot_loader = false;
  EXPECT_THAT(blockers(run()), HasSubstr("no boot loader"));
}

TEST_F(FixesTest, AnInitramfsThatCannotBeReadIsABlocker) {
  files.put(initramfs_path, std::string(5000, 'x'));
  EXPECT_THAT(blockers(run()), HasSubstr("compressed in a way that is not known"));
}

}  // namespace
}  // namespace reclo::recovery
