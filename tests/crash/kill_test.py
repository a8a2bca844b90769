#!/usr/bin/env python3
"""Backups and restores are killed at random moments and at every named kill point; no committed point may
ever differ from the disk that was backed up.

time-limit: 1500

The suite runs in a mount namespace of its own, so that the small file systems that it fills up are gone with
it, whatever ends it.
"""

import hashlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

if os.environ.get("RECLO_TEST_NAMESPACE") != "own":
    os.environ["RECLO_TEST_NAMESPACE"] = "own"
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execvp("unshare", ["unshare", *as_root, "--mount", sys.executable, *sys.argv])

import lib  # noqa: E402
from disks import MIB, PAGE_BYTES  # noqa: E402
from lib import check, check_equal  # noqa: E402

KILLS = int(os.environ.get("RECLO_TEST_KILLS", "200"))
CHECK_EVERY = 50
DISK_MIB = 40
SIGNALS = (signal.SIGKILL,) * 8 + (signal.SIGINT, signal.SIGTERM)
NO_SPACE = 8

story = lib.Story("kill")
reclo = story.reclo()
dice = random.Random(int(os.environ.get("RECLO_TEST_SEED", "20240611")))


class Disk:
    """A raw disk with random content; its digest is what a point of it must restore to."""

    def __init__(self, path, size_mib):
        self.path = path
        self.size = size_mib * MIB
        with open(path, "wb") as file:
            file.truncate(self.size)

    def write(self, offset, length):
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(dice.randbytes(length))

    def change(self):
        """Some scattered pages; sometimes a region that takes packs of its own, or zeros."""
        for _ in range(dice.randrange(1, 40)):
            self.write(dice.randrange(self.size // PAGE_BYTES) * PAGE_BYTES, PAGE_BYTES)
        if dice.random() < 0.3:
            length = dice.randrange(1, 20 * MIB)
            self.write(dice.randrange(self.size - length), length)
        if dice.random() < 0.2:
            with open(self.path, "r+b") as file:
                file.seek(dice.randrange(self.size - 2 * MIB))
                file.write(bytes(MIB))

    def digest(self):
        return digest_of(self.path)


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class History:
    """What was on the disk when each committed point's backup started: the model to compare with."""

    def __init__(self, runner, disk):
        self.reclo = runner
        self.disk = disk
        self.committed = {}  # point id: digest
        self.checked = set()
        self.kills = 0
        self.usual_s = 1.0

    def note_commits(self, digest):
        """Points that are listed now and were not before belong to the attempt that just ended."""
        listed = self.reclo.json("points")
        points = listed["points"] if isinstance(listed, dict) else listed
        fresh = [point["id"] for point in points if point["id"] not in self.committed]
        check(len(fresh) <= 1, f"one attempt made {len(fresh)} points")
        for point in fresh:
            self.committed[point] = digest
        known = {point["id"] for point in points}
        for point in self.committed:
            check(point in known, f"the committed point {point} is no longer listed")

    def attempt(self, kill_after_s=None, sent=signal.SIGKILL, env=None):
        """One backup, perhaps killed. Returns its exit code."""
        digest = self.disk.digest()
        log = story.folder / "attempt.log"
        started = time.monotonic()
        with open(log, "wb") as stderr:
            process = subprocess.Popen([lib.RECLO, "backup", "--server", "files", str(self.disk.path)],
                                       env={**self.reclo.env, **(env or {})}, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=stderr)
        story.later(process.kill)
        if kill_after_s is not None:
            try:
                process.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(sent)
        code = process.wait(120)
        story.cleanups.pop()
        if code == 0:
            self.usual_s = 0.5 * self.usual_s + 0.5 * (time.monotonic() - started)
        else:
            self.kills += 1
            allowed = {-signal.SIGKILL, 130, 137, 143, -signal.SIGINT, -signal.SIGTERM}
            check(code in allowed, f"exit code {code}: {log.read_text()[-300:]}")
        self.note_commits(digest)
        return code

    def check_points(self, points):
        target = story.folder / "restored.img"
        for point in points:
            target.unlink(missing_ok=True)
            self.reclo.run("restore", point, "--to", target)
            check_equal(digest_of(target), self.committed[point], f"content of the point {point}")
            self.checked.add(point)
        target.unlink(missing_ok=True)

    def check_new_points(self):
        old = sorted(self.checked)
        fresh = [point for point in self.committed if point not in self.checked]
        self.check_points(fresh + dice.sample(old, min(2, len(old))))


disk = Disk(story.folder / "disk.img", DISK_MIB)
history = History(reclo, disk)


def kill_points():
    """The names that the sources give to the moments of a backup; recovery has a test of its own."""
    names = set()
    for module in ("base", "os", "repo", "store", "backup"):
        for source in (lib.ROOT / "src" / module).glob("*.cc"):
            names.update(re.findall(r'RECLO_KILL_POINT\("([a-z_.]+)"\)', source.read_text()))
    return sorted(names)


@story.step
def a_repository_is_made():
    code = reclo.init()["recovery_code"]
    # Opens the repository without the seconds that a passphrase costs on purpose.
    pathlib.Path(reclo.env["RECLO_PASSPHRASE_FILE"]).write_text(code + "\n")
    disk.write(0, 30 * MIB)


@story.step
def every_kill_point_leaves_a_sound_repository():
    names = kill_points()
    check(len(names) >= 8, f"only {names} were found")
    for nth in ("", ":2"):
        for name in names:
            disk.change()
            code = history.attempt(env={"RECLO_KILL_POINT": name + nth})
            check(nth or code == 137, f"{name} was not reached: exit code {code}")
    check_equal(history.attempt(), 0, "exit code of the backup after all kill points")
    history.check_new_points()


@story.step
def backups_survive_random_kills():
    since_check = history.kills
    while history.kills < KILLS:
        disk.change()
        # Now and then nothing is in the way, so that commits happen too.
        killed = dice.random() < 0.85
        history.attempt(dice.uniform(0, 1.1 * history.usual_s) if killed else None, dice.choice(SIGNALS))
        if history.kills - since_check >= CHECK_EVERY:
            since_check = history.kills
            history.check_new_points()
    print(f"  {history.kills} kills, {len(history.committed)} points, a backup takes {history.usual_s:.2f} s")


@story.step
def lost_memories_between_kills_do_no_harm():
    for name in ("disk-0.tags", "chunks.index", "state.json", "session.journal", "maps", "disk-0.tags.new"):
        disk.change()
        history.attempt(dice.uniform(0, history.usual_s))
        for path in reclo.state.rglob(name):
            subprocess.run(["rm", "-r", "--", str(path)], check=True)
        disk.change()
        history.attempt()


@story.step
def every_point_is_whole_in_the_end():
    disk.change()
    check_equal(history.attempt(), 0, "exit code of the last backup")
    history.check_points(history.committed)
    reclo.run("verify", "--read-data")


@story.step
def killed_restores_go_on():
    target = story.folder / "target.img"
    point, digest = list(history.committed.items())[-1]
    started = time.monotonic()
    history.check_points([point])
    usual_s = time.monotonic() - started
    for _ in range(5):
        target.unlink(missing_ok=True)
        for _ in range(4):
            process = reclo.start("restore", point, "--to", target, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
            story.later(process.kill)
            try:
                process.wait(dice.uniform(0.2, 1) * usual_s)
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            story.cleanups.pop()
        reclo.run("restore", point, "--to", target)
        check_equal(digest_of(target), digest, "the restored disk")
        check(not pathlib.Path(f"{target}.reclo-restore").exists(), "the restore's journal was left")


class SmallFileSystem:
    """A tmpfs whose size can be changed."""

    def __init__(self, path, size_kib):
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "reclo-test", str(path)], check=True)
        story.later(lambda: subprocess.run(["umount", str(path)], check=True))

    def resize(self, size_kib):
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(self.path)], check=True)


def full_disk_story(small, runner, point_count_before):
    full = runner.run("backup", "--server", "files", disk.path, expect=NO_SPACE)
    check("space" in full.stderr.lower(), f"the message does not speak of space: {full.stderr[-300:]}")
    again = runner.run("backup", "--server", "files", disk.path, expect=NO_SPACE)
    check("space" in again.stderr.lower(), f"the message does not speak of space: {again.stderr[-300:]}")
    listed = runner.json("points")
    points = listed["points"] if isinstance(listed, dict) else listed
    check_equal(len(points), point_count_before, "number of points while the disk is full")
    small.resize(400 * 1024)
    target = story.folder / "after-full.img"
    runner.run("restore", runner.backup("files", disk.path), "--to", target)
    check_equal(digest_of(target), disk.digest(), "the point made after space was freed")
    target.unlink()
    runner.run("verify", "--read-data")


@story.step
def a_full_repository_disk_is_an_error_and_no_damage():
    small = SmallFileSystem(story.folder / "small-repository", 24 * 1024)
    runner = story.reclo(repo=small.path / "repository")
    pathlib.Path(runner.env["RECLO_PASSPHRASE_FILE"]).write_text("a passphrase\n")
    runner.init()
    full_disk_story(small, runner, 0)


@story.step
def a_full_state_folder_is_an_error_and_no_damage():
    small = SmallFileSystem(story.folder / "small-state", 600)
    runner = story.reclo(env={"RECLO_STATE_DIR": str(small.path)})
    pathlib.Path(runner.env["RECLO_PASSPHRASE_FILE"]).write_text("a passphrase\n")
    runner.init()
    full_disk_story(small, runner, 0)


story.run()
