#!/usr/bin/env python3
"""A server bound to its hardware is made to start elsewhere: UEFI, LVM, SATA drivers only, a static address.

It never runs as it was made: what is shown is that it starts from NVMe after its preparation, and what the
preparation found. Each start takes a minute or more, so there is one.

time-limit: 1500
"""

import json
import os
import pathlib
import shutil
import subprocess

import lib
from ec2_rig import Ec2Rig
from lib import SERVERS, check, check_equal

story = lib.Story("prepare")
rig = Ec2Rig(story)
reclo = story.reclo(env=rig.env)
disk = story.folder / "office.img"
restored = story.folder / "restored.img"
state = {}

GUESTFISH_ENV = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
ORIGINALS = ["/etc/fstab", "/etc/network/interfaces", "/etc/resolv.conf", "/boot/grub/grub.cfg", "/boot/initrd.img"]
GONE = ["/etc/reclo", "/var/lib/reclo", "/etc/systemd/network/99-reclo-fallback.network"]


def look_inside(image):
    """Checksums of the files that a preparation changes, and which of those that it adds are there."""
    commands = ["run", "mount-ro /dev/office/root /", "mount-ro /dev/sda1 /boot/efi"]
    commands += [f"checksum sha256 {path}" for path in ORIGINALS] + [f"exists {path}" for path in GONE]
    done = subprocess.run(["guestfish", "--ro", "--format=raw", "-a", image], env=GUESTFISH_ENV, text=True,
                          input="\n".join(commands), capture_output=True, check=False, timeout=600)
    check(done.returncode == 0, f"guestfish failed: {done.stderr[-300:]}")
    answers = done.stdout.split()
    return dict(zip(ORIGINALS + GONE, answers))


def lay_over(image):
    """Restores the point and writes the prepared one's changed pages over it, as a standby would hold it."""
    reclo.run("restore", "latest:office", "--to", image)
    reclo.run("prepare", "latest:office", "--for", "ec2", "--apply-to", image)


@story.step
def a_server_bound_to_its_hardware_is_backed_up():
    made = subprocess.run([SERVERS / "make-debian.sh", disk], env={**os.environ, "LAYOUT": "lvm"},
                          capture_output=True, text=True, check=False)
    check(made.returncode == 0, f"make-debian.sh failed: {made.stderr.strip()[-300:]}")
    state["before"] = look_inside(disk)
    reclo.init()
    state["point"] = reclo.backup("office", disk)
    disk.unlink()


@story.step
def a_dry_run_finds_what_is_wrong_and_keeps_nothing():
    report = reclo.json("prepare", "latest:office", "--for", "ec2", "--dry-run", limit_s=600)
    check(report["bootable"] and report["path"] is None, f"dry run: {report['verdict']}")
    fixes = {fix["name"]: fix for fix in report["fixes"]}
    for name, words in (("initramfs-drivers", "nvme"), ("fstab", "/dev/sda1"), ("fstab", "/srv/archive"),
                        ("network-mounts", "/srv/nas"), ("kernel-arguments", "serial"),
                        ("uefi-fallback", "BOOTX64.EFI"), ("network-addresses", "ens192"),
                        ("name-servers", "resolv.conf"), ("clone-marker", "recovered")):
        check(fixes[name]["needed"] and words in fixes[name]["why"], f"{name}: {fixes[name]}")
    check(not list(reclo.state.rglob("*.overlay")), "a dry run kept an overlay")


@story.step
def it_is_prepared_once():
    first = reclo.json("prepare", "latest:office", "--for", "ec2", limit_s=600)
    check(first["bootable"] and not first["cached"], f"{first['verdict']}")
    check(first["changed_bytes"] < 64 << 20, f"{first['changed_bytes']} bytes are changed")
    overlay = pathlib.Path(first["path"])
    check_equal(overlay.stat().st_mode & 0o777, 0o600, "the overlay's mode")
    check(b"nameserver" not in overlay.read_bytes(), "the overlay holds clear text")
    again = reclo.json("prepare", "latest:office", "--for", "ec2")
    check(again["cached"] and again["overlay"] == first["overlay"], "it was prepared again")
    check(not list(overlay.parent.glob("work*")), "work files were left")


def check_snapshot(report, image):
    """The snapshot in EC2 holds what the image does."""
    exported = story.folder / "exported.img"
    rig.read_snapshot(report["disks"][0]["snapshot"], exported, image.stat().st_size)
    check(subprocess.run(["cmp", exported, image], check=False).returncode == 0, "the snapshot holds something else")
    exported.unlink()


@story.step
def a_standby_holds_the_point_with_the_changes_laid_over():
    lay_over(restored)
    report = reclo.json("standby", "refresh", "--server", "office", limit_s=600)
    check(report["full"] and report["overlay"], f"no overlay: {report}")
    check_snapshot(report, restored)
    check(reclo.json("standby", "refresh", "--server", "office")["unchanged"], "it was refreshed again")


@story.step
def without_them_it_is_refreshed_to_the_point_itself():
    plain = story.folder / "plain.img"
    reclo.run("restore", "latest:office", "--to", plain)
    report = reclo.json("standby", "refresh", "--server", "office", "--no-prepare", limit_s=600)
    check(not report["full"] and not report["overlay"], f"it was put as a whole: {report}")
    check(0 < report["blocks_put"] < 200, f"{report['blocks_put']} blocks were put")
    check_snapshot(report, plain)
    check_equal(look_inside(plain), state["before"], "files of the restored point")
    plain.unlink()


@story.step
def it_starts_from_nvme_and_answers():
    guest = story.guest(restored, memory_mib=512, firmware="uefi", bus="nvme")
    guest.wait(limit_s=700)  # the rows: the database is up too
    guest.put("a row written elsewhere")
    check_equal(guest.rows(), ["a row written elsewhere"], "rows")
    console = guest.console.read_text(errors="replace")
    check("login:" in console or "Debian" in console, "nothing was said on the serial line")
    guest.kill()


@story.step
def taken_back_it_is_as_it_was():
    report = reclo.json("unprepare", "--disk", restored, limit_s=600)
    check_equal(report["left"], [], "what could not be taken back")
    check("/etc/network/interfaces" in report["restored"], f"restored: {report['restored']}")
    check_equal(look_inside(restored), state["before"], "files after the way back")
    check_equal(reclo.json("unprepare", "--disk", restored, limit_s=600)["restored"], [], "a second time")


@story.step
def what_cannot_be_prepared_is_said_in_words():
    empty = story.folder / "empty.img"
    with open(empty, "wb") as file:
        file.truncate(16 << 20)
        file.seek(1 << 20)
        file.write(os.urandom(4096))
    reclo.backup("empty", empty)
    told = reclo.run("prepare", "latest:empty", "--for", "ec2", expect=1, limit_s=600)
    check("no Linux root file system" in told.stderr, f"not said: {told.stderr[-300:]}")
    check(json.loads(reclo.run("prepare", "latest:empty", "--for", "qemu", "--json", expect=1,
                               limit_s=600).stdout)["bootable"] is False, "called bootable")
    shutil.rmtree(reclo.state / "prepared")


story.run()
