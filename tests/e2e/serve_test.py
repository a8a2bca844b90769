#!/usr/bin/env python3
"""NBD with other people's clients: nbdinfo, nbdcopy, qemu-img, qemu-io, fio and fsck over `reclo serve`."""

import json
import signal
import subprocess

import lib
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("serve")
reclo = story.reclo()
disk = StampedDisk(story.folder / "plain.img", 64)
state = {}


def tool(*command, limit_s=120):
    """Runs a client and returns what it printed; its failure is the step's."""
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=limit_s, check=False)
    check(result.returncode == 0, f"{command[0]} ended with {result.returncode}: {result.stderr.strip()[-300:]}")
    return result.stdout


class Served:
    """`reclo serve` on a socket, ended at the end of the with block."""

    def __init__(self, point, *extra):
        self.socket = story.folder / "image.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.command = ("serve", point, "--socket", self.socket, *extra)

    def __enter__(self):
        self.socket.unlink(missing_ok=True)
        self.process = reclo.start(*self.command)
        story.later(lambda: self.process.kill())

        def answers():
            check(self.process.poll() is None, "reclo serve ended early")
            return self.socket.exists() and subprocess.run(
                ["nbdinfo", "--size", self.uri], capture_output=True, check=False).returncode == 0

        lib.wait_until(answers, 60, "an NBD answer")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@story.step
def nbdinfo_sees_the_size_and_read_only():
    disk.fill(50, 4000)
    reclo.init()
    state["point"] = reclo.backup("served", disk.path)
    with Served(state["point"]) as served:
        told = json.loads(tool("nbdinfo", "--json", served.uri))["exports"][0]
        check_equal(told["export-size"], disk.pages * 4096, "export size")
        check(told["is_read_only"], "a served point must be read-only")


@story.step
def nbdinfo_maps_the_holes():
    with Served(state["point"]) as served:
        extents = json.loads(tool("nbdinfo", "--map", "--json", served.uri))
        data = sum(extent["length"] for extent in extents if extent["type"] & 3 == 0)
        check(data < 24 << 20, f"{data} bytes are called data, of 16 MiB written")


@story.step
def nbdcopy_reads_every_byte():
    with Served(state["point"]) as served:
        copied = story.folder / "copied.img"
        tool("nbdcopy", served.uri, copied)
        check_equal(disk.first_difference(copied, disk.model), None, "what nbdcopy read")
        copied.unlink()


@story.step
def qemu_img_finds_no_difference():
    with Served(state["point"]) as served:
        tool("qemu-img", "compare", "-f", "raw", "-F", "raw", disk.path, served.uri)


@story.step
def fio_reads_at_random_with_checks():
    with Served(state["point"]) as served:
        tool("fio", "--name=read", "--ioengine=nbd", f"--uri={served.uri}", "--rw=randread", "--bsrange=4k-256k",
             "--size=64m", "--io_size=64m", "--iodepth=16", "--minimal")


@story.step
def a_writable_overlay_keeps_writes_and_leaves_the_point():
    overlay = story.folder / "overlay.qcow2"
    with Served(state["point"], "--writable", overlay) as served:
        tool("qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 64k", "-c", "flush", served.uri)
    with Served(state["point"], "--writable", overlay) as served:
        tool("qemu-io", "-f", "raw", "-c", "read -P 0x5a 1M 64k", served.uri)
    with Served(state["point"]) as served:
        tool("qemu-img", "compare", "-f", "raw", "-F", "raw", disk.path, served.uri)


@story.step
def fsck_is_content_with_a_file_system():
    tree = story.folder / "tree"
    tree.mkdir()
    for number in range(200):
        (tree / f"letter{number}").write_bytes(bytes([number % 256]) * (number * 137))
    image = story.folder / "ext4.img"
    tool("mke2fs", "-q", "-t", "ext4", "-d", tree, image, "48M")
    point = reclo.backup("documents", image)
    with Served(point) as served:
        copied = story.folder / "ext4-copied.img"
        tool("qemu-img", "convert", "-f", "raw", "-O", "raw", served.uri, copied)
        tool("e2fsck", "-f", "-n", copied)
        tool("debugfs", "-R", f"dump /letter199 {story.folder / 'letter'}", copied)
        check_equal((story.folder / "letter").read_bytes(), bytes([199]) * (199 * 137), "a document")


@story.step
def a_tcp_address_serves_too():
    port = lib.free_port()
    process = reclo.start("serve", state["point"], "--listen", f"127.0.0.1:{port}")
    story.later(process.kill)
    uri = f"nbd://127.0.0.1:{port}"
    lib.wait_until(lambda: subprocess.run(["nbdinfo", "--size", uri], capture_output=True,
                                          check=False).returncode == 0, 60, "an NBD answer")
    tool("qemu-img", "compare", "-f", "raw", "-F", "raw", disk.path, uri)
    process.terminate()
    process.wait(30)


story.run()
