#!/usr/bin/env python3
"""S3 for real: the byte-level story on moto and on Ceph's gateway, and a server booted from Ceph.

time-limit: 1200
"""

import socket
import subprocess
import sys
import time

import lib
import stores
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("s3")
state = {}


def byte_story(name, start):
    """init, full, incremental, restore of both, verify; every byte against the model."""
    server = start(story)
    reclo = story.reclo(repo=server.repo, options=server.options, env=server.env)
    disk = StampedDisk(story.folder / f"{name}.img", 96)
    disk.fill(0, 6000)
    reclo.init()
    first, first_model = reclo.backup("files", disk.path), disk.snapshot()
    disk.scatter(300)
    second, second_model = reclo.backup("files", disk.path), disk.snapshot()
    uploaded = reclo.json("show", second)["uploaded_bytes"]
    check(uploaded < 3 << 20, f"300 changed pages (1.2 MiB) cost {uploaded} uploaded bytes")
    for point, model in ((first, first_model), (second, second_model)):
        restored = story.folder / f"{name}-restored.img"
        reclo.run("restore", point, "--to", restored)
        check_equal(disk.first_difference(restored, model), None, f"restore of {point}")
        restored.unlink()
    reclo.run("verify", "--read-data")
    return server, reclo


@story.step
def bytes_on_moto():
    state["moto"], _ = byte_story("moto", stores.start_moto)


class CutLine:
    """A proxy before the server, whose line can be cut."""

    def __init__(self, server):
        control, log_path = story.folder / "line.sock", story.folder / "line.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, stores.RIGS / "tcp_proxy.py", "--to", server.endpoint.split("//")[1],
                 "--delay-ms", "2", "--control", control], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        story.later(lambda: (process.kill(), process.wait()))
        lib.wait_until(lambda: "ready " in log_path.read_text(), 30, "the line")
        self.endpoint = "http://" + log_path.read_text().split("ready ")[1].split()[0]
        self.control = control

    def tell(self, word):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.control))
            line.sendall(word.encode() + b"\n")
            check_equal(line.recv(100), b"ok\n", f"the line's answer to {word}")


def backup_over(reclo, path, name, *options):
    """A backup slow enough to be cut in the middle; returns it once it uploads."""
    log = story.folder / f"{name}.log"
    process = reclo.start("backup", "--server", "cut", path, "--upload-limit", "4M", "--progress=json", *options,
                          stdout=subprocess.DEVNULL, stderr=open(log, "wb"))
    story.later(process.kill)
    lib.wait_until(lambda: '"uploaded' in log.read_text() or process.poll() is not None, 30, "the backup's start")
    time.sleep(2)
    check(process.poll() is None, "the backup was too quick for this test")
    return process, log


@story.step
def a_cut_line_is_outlasted_or_told():
    server = state["moto"]
    line = CutLine(server)
    env = dict(server.env, RECLO_S3_ENDPOINT=line.endpoint)
    reclo = story.reclo(repo=server.repo, options=server.options, env=env)
    disk = StampedDisk(story.folder / "cut.img", 128, seed=8)
    for cut, cut_s in (("cut-hard", 15), ("cut", 60)):  # it goes on
        disk.fill(0, 30000)
        process, log = backup_over(reclo, disk.path, cut)
        line.tell(cut)
        time.sleep(cut_s)
        line.tell("heal")
        check_equal(process.wait(180), 0, f"exit code after {cut_s} s of {cut}: {log.read_text()[-500:]}")
    # For ever: an error, and the next run goes on.
    disk.fill(0, 30000)
    process, log = backup_over(reclo, disk.path, "for-ever", "--retry-for", "3")
    line.tell("cut-hard")
    check_equal(process.wait(120), 6, f"exit code: {log.read_text()[-500:]}")
    check("gave up" in log.read_text(), f"the end is not told: {log.read_text()[-500:]}")
    line.tell("heal")
    ended = reclo.json("backup", "--server", "cut", disk.path)
    check(ended["resumed"], "the backup began anew")
    restored = story.folder / "cut-restored.img"
    reclo.run("restore", ended["id"], "--to", restored)
    check_equal(disk.first_difference(restored, disk.snapshot()), None, "restore after the cuts")
    restored.unlink()


@story.step
def bytes_on_ceph():
    state["ceph"], state["reclo"] = byte_story("ceph", stores.start_rgw)


@story.step
def a_server_backs_up_to_ceph():
    state["disk"] = story.make_server("tiny")
    guest = story.guest(state["disk"])
    guest.wait()
    guest.put("stored before the backup")
    guest.freeze()
    state["reclo"].backup("frontdesk", state["disk"])
    guest.destroy()


@story.step
def the_server_boots_from_ceph():
    port = lib.free_port()
    instance = state["reclo"].recover("latest:frontdesk", port)
    check_equal(lib.Office(port).rows(), ["stored before the backup"], "rows of the recovered server")
    state["reclo"].run("stop", instance["id"])


@story.step
def wrong_credentials_are_named():
    wrong = dict(state["ceph"].env, AWS_SECRET_ACCESS_KEY="not-the-secret-key")
    other = story.reclo(repo=state["ceph"].repo, options=state["ceph"].options, env=wrong)
    told = other.run("points", expect="error").stderr
    check("not-the-secret-key" not in told, "the secret is in the message")
    check(told.strip(), "no message")


@story.step
def a_missing_bucket_is_named():
    other = story.reclo(repo="s3://no-such-bucket/x", options=state["ceph"].options, env=state["ceph"].env)
    told = other.run("points", expect="error").stderr
    check("no-such-bucket" in told, f"the bucket is not named: {told}")


story.run()
