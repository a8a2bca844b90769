"""Disks for the byte-level stories: stamped sectors, whose every byte tells where and when it was written."""

import hashlib
import random
import struct
import subprocess

SECTOR_BYTES = 512
PAGE_BYTES = 4096
MIB = 1 << 20


def stamped_page(page, generation):
    """4 KiB whose sectors name their own address and the generation that wrote them; a third of each is
    noise, so that it neither compresses away nor repeats."""
    sectors = []
    for sector in range(PAGE_BYTES // SECTOR_BYTES):
        head = struct.pack("<8sQII", b"RECLOSEC", page, sector, generation)
        noise = hashlib.shake_128(head).digest(170)
        sectors.append((head + noise).ljust(SECTOR_BYTES, b"."))
    return b"".join(sectors)


class StampedDisk:
    """A raw disk file with a plain model of what each of its pages holds."""

    def __init__(self, path, size_mib, seed=1):
        self.path = path
        self.pages = size_mib * MIB // PAGE_BYTES
        self.generation = 0
        self.model = {}
        self.random = random.Random(seed)
        with open(path, "wb") as file:
            file.truncate(size_mib * MIB)

    def write(self, pages):
        """Stamps pages with a new generation."""
        self.generation += 1
        with open(self.path, "r+b") as file:
            for page in pages:
                file.seek(page * PAGE_BYTES)
                file.write(stamped_page(page, self.generation))
                self.model[page] = self.generation

    def fill(self, first, count):
        self.write(range(first, first + count))

    def scatter(self, count):
        """Random single pages, the worst case of an incremental."""
        self.write(self.random.sample(range(self.pages), count))

    def snapshot(self):
        return dict(self.model)

    def first_difference(self, path, model):
        """Compares a restored file with a snapshot; None when every byte is as it was."""
        zeros = bytes(PAGE_BYTES)
        with open(path, "rb") as file:
            file.seek(0, 2)
            if file.tell() != self.pages * PAGE_BYTES:
                return f"size {file.tell()}, expected {self.pages * PAGE_BYTES}"
            file.seek(0)
            for page in range(self.pages):
                expected = stamped_page(page, model[page]) if page in model else zeros
                if file.read(PAGE_BYTES) != expected:
                    return f"page {page} is not what generation {model.get(page, 'none')} wrote"
        return None


def convert(source, target, image_format, *options):
    """Makes a qcow2, vpc, vhdx or vmdk file of a raw one, or back, by QEMU's own tool."""
    subprocess.run(["qemu-img", "convert", "-O", image_format, *options, str(source), str(target)], check=True)


def same_content(path_a, path_b):
    """Whether two disks of any format hold the same bytes, by QEMU's own comparison."""
    return subprocess.run(["qemu-img", "compare", str(path_a), str(path_b)], check=False,
                          capture_output=True).returncode == 0
