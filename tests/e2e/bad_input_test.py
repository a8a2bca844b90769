#!/usr/bin/env python3
"""Bad input gets a clear error that names its object, and nothing is lost: on a folder repository.

quick-suite
"""

import os
import signal

import lib
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("bad_input")
reclo = story.reclo()
disk = StampedDisk(story.folder / "plain.img", 64)
state = {}


def refused(told, *words):
    """An error that mentions each word; no stack trace, no abort."""
    check("terminate called" not in told and "Assertion" not in told, f"it crashed: {told[-300:]}")
    for word in words:
        check(str(word).lower() in told.lower(), f"the message does not mention {word!r}: {told[-300:]}")


@story.step
def no_repository_is_named():
    refused(reclo.run("points", expect="error").stderr, reclo.repo)


@story.step
def init_refuses_a_repository_that_is_there():
    reclo.init()
    disk.fill(0, 3000)
    state["point"] = reclo.backup("files", disk.path)
    refused(reclo.run("init", expect="error").stderr, reclo.repo)


@story.step
def a_wrong_passphrase_is_refused():
    wrong = story.folder / "wrong"
    wrong.write_text("not the passphrase\n")
    refused(reclo.run("restore", state["point"], "--to", story.folder / "never.img", "--passphrase-file", wrong,
                      expect="error").stderr, "passphrase")
    check(not (story.folder / "never.img").exists(), "a file was left")


@story.step
def an_unknown_point_is_named():
    refused(reclo.run("show", "feedfacefeedface", expect="error").stderr, "feedface")
    refused(reclo.run("show", "latest:nobody", expect="error").stderr, "nobody")


@story.step
def a_missing_disk_is_named():
    refused(reclo.run("backup", "--server", "files", story.folder / "gone.img", expect="error").stderr, "gone.img")


@story.step
def usage_errors_have_their_own_exit_code():
    first = reclo.run("frobnicate", expect="error").returncode
    second = reclo.run("backup", expect="error").returncode
    check_equal(first, second, "exit codes of two usage errors")
    refused(reclo.run("frobnicate", expect=2).stderr, "no verb", "frobnicate")


@story.step
def a_smaller_target_is_refused():
    small = story.folder / "small.img"
    small.write_bytes(bytes(1 << 20))
    before = small.read_bytes()
    reclo.run("restore", state["point"], "--to", small, expect="error")
    check_equal(small.read_bytes(), before, "the refused target")


def start_slow_backup(server, path):
    """A backup that takes several seconds, because its uplink is slow; returns once it uploads."""
    packs = pack_count()
    process = reclo.start("backup", "--server", server, "--upload-limit", "6M", path,
                          stderr=open(story.folder / f"{server}.log", "wb"))
    story.later(process.kill)
    lib.wait_until(lambda: pack_count() > packs or process.poll() is not None, 60, "the first pack")
    check(process.poll() is None, "the backup was too quick for this test")
    return process


def pack_count():
    return sum(1 for path in lib.pathlib.Path(reclo.repo).glob("machines/*/packs/*/*"))


@story.step
def two_backups_of_one_server_exclude_each_other():
    big = StampedDisk(story.folder / "big.img", 160, seed=3)
    big.fill(0, 30000)
    first = start_slow_backup("busy", big.path)
    refused(reclo.run("backup", "--server", "busy", disk.path, expect="error").stderr, "busy")
    check_equal(first.wait(120), 0, "exit code of the first")


@story.step
def an_interrupted_backup_goes_on():
    big = StampedDisk(story.folder / "big.img", 160, seed=4)
    big.fill(0, 30000)
    for sent in (signal.SIGINT, signal.SIGKILL):
        process = start_slow_backup("interrupted", big.path)
        process.send_signal(sent)
        check(process.wait(30) != 0, "an interrupted backup ended with 0")
    ended = reclo.json("backup", "--server", "interrupted", big.path)
    check(ended["resumed"], "the backup began anew")
    point = ended["id"]
    restored = story.folder / "restored.img"
    reclo.run("restore", point, "--to", restored)
    check_equal(big.first_difference(restored, big.model), None, "the resumed backup")
    restored.unlink()


@story.step
def a_flipped_object_is_detected_and_named():
    packs = sorted((path for path in lib.pathlib.Path(reclo.repo).rglob("*")
                    if path.is_file() and "packs" in path.parts), key=lambda path: path.stat().st_size)
    victim = packs[-1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x10
    os.chmod(victim, 0o600)
    victim.write_bytes(content)
    told = reclo.run("verify", "--read-data", expect="error")
    refused(told.stdout + told.stderr, victim.name)


story.run()
