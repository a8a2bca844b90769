"""The machine at home that make-debian.sh's LAYOUT=lvm server is bound to: UEFI, two SATA disks, a network card
called ens192, and a network of its own where the server has its old address."""

import shutil
import subprocess

from lib import Office, check, free_port

CARD_SLOT = 192  # systemd names a card after the number of the slot that it is in


class HomeMachine(Office):
    def __init__(self, story, disk, address, memory_mib=512):
        port = free_port()
        super().__init__(port)
        self.console = story.folder / "home-console.log"
        variables, archive = story.folder / "home-vars.fd", story.folder / "archive.img"
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
        self.make_archive(archive)
        network = ".".join(address.split(".")[:3])
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", str(memory_mib), "-display", "none",
             "-serial", f"file:{self.console}",
             "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
             "-drive", f"if=pflash,format=raw,file={variables}",
             "-drive", f"file={disk},format=raw,if=none,id=system", "-device", "ide-hd,drive=system,bus=ide.0",
             "-drive", f"file={archive},format=raw,if=none,id=archive", "-device", "ide-hd,drive=archive,bus=ide.1",
             "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
             "-device", f"pcie-root-port,id=cardport,chassis=1,slot={CARD_SLOT}",
             "-netdev", f"user,id=lan,restrict=on,net={network}.0/24,host={network}.1,dns={network}.3,"
                        f"hostfwd=tcp:127.0.0.1:{port}-{address}:80",
             "-device", "e1000e,netdev=lan,bus=cardport,romfile="],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(story.folder / "home-qemu.log", "wb"))
        story.later(self.kill)

    def try_get(self, path):
        check(self.process.poll() is None, "the machine at home ended")
        return super().try_get(path)

    @staticmethod
    def make_archive(path):
        """The second disk, with the file system that the server's fstab wants at /dev/sdb1."""
        with open(path, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["sfdisk", "-q", path], input="label: gpt\nstart=2048\n", text=True, check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset=1048576", path, "60m"], check=True)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
