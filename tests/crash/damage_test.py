#!/usr/bin/env python3
"""Damaged repositories and disks that misbehave: what is damaged is named, what is not is restored.

quick-suite
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import lib  # noqa: E402
from disks import MIB, PAGE_BYTES, StampedDisk, stamped_page  # noqa: E402
from lib import check, check_equal  # noqa: E402

DAMAGED = 5
IN_USE = 7

story = lib.Story("damage")
reclo = story.reclo()
disk = StampedDisk(story.folder / "plain.img", 96)
disk_state = {}


def packs(point="*"):
    """The packs of the repository, or of a point: largest first, so that data comes before maps."""
    found = [path for path in pathlib.Path(reclo.repo).glob(f"machines/*/packs/{point}/*") if path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_size)


def damaged_map_pack():
    """The newest point's map pack, and what it holds after damage all over it."""
    pack = packs(disk_state["point"])[-1]
    content = bytearray(pack.read_bytes())
    for at in range(len(content) // 20, len(content), 50):
        content[at] ^= 1
    return pack, bytes(content)


class Replaced:
    """An object with other content for a while."""

    def __init__(self, path, content):
        self.path = path
        self.content = content

    def __enter__(self):
        self.before = self.path.read_bytes()
        self.put(self.content)
        return self.path

    def put(self, content):
        self.path.unlink(missing_ok=True)
        if content is not None:
            self.path.write_bytes(content)

    def __exit__(self, *_):
        self.put(self.before)


def restore_around(*damaged):
    """Restores with objects damaged: exit code 5, an object and all ranges named, the rest right.
    Returns how many bytes were lost."""
    target = story.folder / "around.img"
    for left in (target, pathlib.Path(f"{target}.reclo-restore")):
        left.unlink(missing_ok=True)
    told = reclo.run("restore", disk_state["point"], "--to", target, "--json", expect=DAMAGED)
    ranges = json.loads(told.stdout)["damaged"]
    check(ranges, "no damaged range is reported")
    check(all(any(path.name in entry["error"] for path in damaged) for entry in ranges),
          f"an error names none of {[path.name for path in damaged]}: {ranges[:3]}")
    check(str(ranges[0]["offset_bytes"]) in told.stderr, f"people are not told: {told.stderr[-300:]}")
    lost = set()
    for entry in ranges:
        first, length = entry["offset_bytes"], entry["length_bytes"]
        lost.update(range(first // PAGE_BYTES, -(-(first + length) // PAGE_BYTES)))
    with open(target, "rb") as file:
        for page in range(disk.pages):
            expected = stamped_page(page, disk.model[page]) if page in disk.model else bytes(PAGE_BYTES)
            if file.read(PAGE_BYTES) != expected:
                check(page in lost, f"page {page} is wrong and not reported")
    target.unlink()
    pathlib.Path(f"{target}.reclo-restore").unlink(missing_ok=True)
    return sum(entry["length_bytes"] for entry in ranges)


def restore_whole():
    target = story.folder / "whole.img"
    reclo.run("restore", disk_state["point"], "--to", target)
    check_equal(disk.first_difference(target, disk.model), None, "the restored disk")
    target.unlink()


@story.step
def a_repository_with_two_points():
    code = reclo.init()["recovery_code"]
    pathlib.Path(reclo.env["RECLO_PASSPHRASE_FILE"]).write_text(code + "\n")
    disk.fill(100, 20000)
    reclo.backup("files", disk.path)
    disk.scatter(300)
    disk_state["point"] = reclo.backup("files", disk.path)
    check(len(packs()) >= 3, "too few packs for this test")
    restore_whole()


@story.step
def a_newer_repository_is_refused():
    config = pathlib.Path(reclo.repo) / "reclo.json"
    text = json.loads(config.read_text())
    (key,) = [name for name in text if name in ("format", "version", "format_version")]
    text[key] = 99
    with Replaced(config, json.dumps(text).encode()):
        for command in (["points"], ["backup", "--server", "files", disk.path], ["verify"]):
            told = reclo.run(*command, expect="error")
            check("newer" in told.stderr or "version" in told.stderr, f"no word of versions: {told.stderr[-300:]}")
    restore_whole()


@story.step
def a_flipped_byte_costs_one_chunk():
    pack = packs()[0]
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0x10
    with Replaced(pack, bytes(content)):
        check(restore_around(pack) <= 4 * MIB, "more than a segment is lost to one flipped byte")
        told = reclo.run("verify", "--read-data", expect=DAMAGED)
        check(pack.name in told.stdout + told.stderr, "verify does not name the object")


@story.step
def a_truncated_pack_costs_its_tail():
    pack = packs()[0]
    content = pack.read_bytes()
    with Replaced(pack, content[: len(content) // 2]):
        whole_pack = 20000 * PAGE_BYTES
        lost = restore_around(pack)
        check(lost < whole_pack, f"{lost} bytes are lost")
        reclo.run("verify", expect=DAMAGED)


@story.step
def a_missing_pack_is_named():
    pack = packs()[1]
    with Replaced(pack, None):
        restore_around(pack)
        told = reclo.run("verify", expect="error")
        check(pack.name in told.stdout + told.stderr, "verify does not name the object")


@story.step
def swapped_packs_are_noticed():
    first, second = packs()[:2]
    one, two = first.read_bytes(), second.read_bytes()
    with Replaced(first, two), Replaced(second, one):
        restore_around(first, second)
        reclo.run("verify", expect=DAMAGED)


@story.step
def a_damaged_map_pack_is_named():
    smallest, content = damaged_map_pack()
    with Replaced(smallest, content):
        told = reclo.run("restore", disk_state["point"], "--to", story.folder / "never.img", expect=DAMAGED)
        check(f"{disk_state['point']}/{smallest.name}" in told.stderr, f"the object is not named: {told.stderr[-300:]}")
        told = reclo.run("verify", expect=DAMAGED)
        check(smallest.name in told.stdout + told.stderr, "verify does not name the object")
    for left in story.folder.glob("never.img*"):
        left.unlink()


@story.step
def a_backup_goes_on_although_its_parents_map_is_damaged():
    smallest, content = damaged_map_pack()
    with Replaced(smallest, content):
        for cached in reclo.state.rglob("maps"):
            shutil.rmtree(cached)
        disk.scatter(50)
        disk_state["point"] = reclo.backup("files", disk.path)
        restore_whole()
    for cached in reclo.state.rglob("maps"):
        shutil.rmtree(cached)
    disk.scatter(10)
    disk_state["point"] = reclo.backup("files", disk.path)
    restore_whole()
    reclo.run("verify", "--read-data")


def slow_backup(server, path, *options):
    process = reclo.start("backup", "--server", server, path, "--upload-limit", "4M", *options,
                          stdout=subprocess.DEVNULL, stderr=open(story.folder / f"{server}.log", "wb"))
    story.later(process.kill)
    time.sleep(1)
    check(process.poll() is None, "the backup was too quick for this test")
    return process


@story.step
def a_second_backup_of_the_server_is_refused():
    big = StampedDisk(story.folder / "big.img", 64, seed=3)
    big.fill(0, 16000)
    first = slow_backup("busy", big.path)
    told = reclo.run("backup", "--server", "busy", big.path, expect=IN_USE)
    check("busy" in told.stderr, f"the server is not named: {told.stderr[-300:]}")
    reclo.backup("another", disk.path)
    check_equal(first.wait(120), 0, "exit code of the first backup")


@story.step
def a_disk_that_shrinks_meanwhile_is_an_error():
    shrinking = story.folder / "shrinking.img"
    # More noise than a backup ever holds in memory: behind a slow store it is never read to the end.
    with open(shrinking, "wb") as file:
        for _ in range(512):
            file.write(os.urandom(MIB))
    process = slow_backup("shrinking", shrinking)
    os.truncate(shrinking, 16 * MIB)
    check(process.wait(120) not in (0, -6, -11), "a shrunken disk went unnoticed")
    told = (story.folder / "shrinking.log").read_text()
    check("shrinking.img" in told, f"the disk is not named: {told[-300:]}")
    point = reclo.backup("shrinking", shrinking)
    reclo.run("restore", point, "--to", story.folder / "shrunk.img")
    check_equal((story.folder / "shrunk.img").read_bytes(), shrinking.read_bytes(), "the smaller disk")


@story.step
def a_disk_that_grows_meanwhile_is_an_error():
    growing = StampedDisk(story.folder / "growing.img", 64, seed=6)
    growing.fill(0, 16000)
    process = slow_backup("growing", growing.path)
    os.truncate(growing.path, 80 * MIB)
    check(process.wait(120) not in (0, -6, -11), "a grown disk went unnoticed")
    told = (story.folder / "growing.log").read_text()
    check("growing.img" in told and "grew" in told, f"the reason is not told: {told[-300:]}")
    point = reclo.backup("growing", growing.path)
    reclo.run("restore", point, "--to", story.folder / "grown.img")
    check_equal((story.folder / "grown.img").read_bytes(), growing.path.read_bytes(), "the larger disk")


def through_fuse(disk_file, behind, *nbdkit):
    """A file that shows a disk by FUSE; whoever kills the server takes the disk away."""
    disk_file.touch()
    server = subprocess.Popen(["nbdfuse", "-r", disk_file, "--command", "nbdkit", "-s", "--exit-with-parent", *nbdkit],
                              stdin=subprocess.DEVNULL)
    story.later(lambda: (subprocess.run(["fusermount3", "-uz", disk_file], check=False), server.wait()))
    lib.wait_until(lambda: disk_file.stat().st_size == behind.path.stat().st_size, 30, "the FUSE disk")
    return server


@story.step
def a_disk_that_returns_eio_is_named_with_its_address():
    """A disk through FUSE, whose reads fail with EIO while a file exists."""
    failing = StampedDisk(story.folder / "behind.img", 64, seed=7)
    failing.fill(0, 16000)
    disk_file, trigger = story.folder / "failing.img", story.folder / "fail-now"
    through_fuse(disk_file, failing, "--filter=error", "file", failing.path, "error-pread=EIO",
                 "error-pread-rate=100%", f"error-file={trigger}")
    reclo.backup("failing", disk_file)
    failing.scatter(50)
    trigger.touch()
    for _ in range(2):
        told = reclo.run("backup", "--server", "failing", disk_file, expect="error").stderr
        check("failing.img" in told and "byte" in told, f"the disk and the address are not named: {told[-300:]}")
    trigger.unlink()
    point = reclo.backup("failing", disk_file)
    reclo.run("restore", point, "--to", story.folder / "after-eio.img")
    check_equal(failing.first_difference(story.folder / "after-eio.img", failing.snapshot()), None, "the disk after EIO")


@story.step
def a_disk_that_vanishes_is_named():
    vanishing = StampedDisk(story.folder / "vanishing.img", 64, seed=5)
    vanishing.fill(0, 2000)
    reclo.backup("vanishing", vanishing.path)
    vanishing.path.unlink()
    told = reclo.run("backup", "--server", "vanishing", vanishing.path, expect=3)
    check("vanishing.img" in told.stderr, f"the disk is not named: {told.stderr[-300:]}")


@story.step
def a_disk_that_vanishes_in_the_middle_is_named():
    behind = StampedDisk(story.folder / "pulled-behind.img", 64, seed=8)
    behind.fill(0, 16000)
    pulled = story.folder / "pulled.img"
    server = through_fuse(pulled, behind, "file", behind.path)
    process = slow_backup("pulled", pulled)
    server.kill()
    check(process.wait(120) not in (0, -6, -11), "a disk that went away was not noticed")
    told = (story.folder / "pulled.log").read_text()
    check("pulled.img" in told, f"the disk is not named: {told[-300:]}")
    subprocess.run(["fusermount3", "-uz", pulled], check=False)
    through_fuse(pulled, behind, "file", behind.path)
    point = reclo.backup("pulled", pulled)
    reclo.run("restore", point, "--to", story.folder / "pushed.img")
    check_equal(behind.first_difference(story.folder / "pushed.img", behind.snapshot()), None, "the disk that came back")


story.run()
