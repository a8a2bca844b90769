"""Volumes as QEMU sees them: a snapshot's blocks at the bottom, what the server writes in layers above.

A snapshot is not copied: its own blocks lie in a sparse file at their addresses, so a qcow2 header whose
tables point into that file as an external data file, and to the parent's for the rest, is a disk at once,
however large. Each snapshot of a volume freezes the layer on top and begins a new one; the frozen layer
says which blocks changed. Source: QEMU docs/interop/qcow2.txt, docs/interop/nbd.
"""

import json
import pathlib
import socket
import struct
import subprocess
import time
import uuid

from ebs_direct import BLOCK_BYTES, Snapshot

CLUSTER_BITS = 19  # a cluster is a block
ENTRIES = BLOCK_BYTES // 8  # a table's entries in a cluster
COPIED = 1 << 63
DATA_FILE_BIT = 1 << 2
EXTENSION_BACKING_FORMAT, EXTENSION_DATA_FILE = 0xE2792ACA, 0x44415441
NBD_START_LIMIT_S = 30


def snapshot_image(snapshot):
    """The snapshot as (path, format) of a read-only image of its lineage."""
    path = pathlib.Path(f"{snapshot.path}.qcow2")
    size_bytes = snapshot.size_gib << 30
    snapshot.path.touch()
    if not path.exists():
        backing = snapshot_image(snapshot.parent) if snapshot.parent else None
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            write_qcow2(file, size_bytes, sorted(snapshot.digests), snapshot.path, backing)
        part.rename(path)
    return path, "qcow2"


def write_qcow2(file, size_bytes, indices, data_file, backing):
    """A qcow2 image of blocks that lie at their own addresses in another file."""
    blocks = size_bytes >> CLUSTER_BITS
    tables = -(-blocks // ENTRIES)
    # Clusters: 0 header, 1 refcount table, 2 refcount block, 3 the first-level table, then the tables.
    first_table = 4
    head = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size_bytes, 0, tables,
                       3 * BLOCK_BYTES, BLOCK_BYTES, 1, 0, 0, DATA_FILE_BIT, 0, 0, 4, 104)
    extensions = extension(EXTENSION_DATA_FILE, str(data_file).encode())
    if backing:
        extensions += extension(EXTENSION_BACKING_FORMAT, backing[1].encode())
    extensions += struct.pack(">II", 0, 0)
    if backing:
        name = str(backing[0]).encode()
        head = head[:8] + struct.pack(">QI", len(head) + len(extensions), len(name)) + head[20:]
        extensions += name
    file.write(head + extensions)
    file.seek(BLOCK_BYTES)
    file.write(struct.pack(">Q", 2 * BLOCK_BYTES))
    file.seek(2 * BLOCK_BYTES)
    file.write(struct.pack(">H", 1) * (first_table + tables))
    file.seek(3 * BLOCK_BYTES)
    file.write(b"".join(struct.pack(">Q", (first_table + number) * BLOCK_BYTES | COPIED) for number in range(tables)))
    for index in indices:
        file.seek(first_table * BLOCK_BYTES + index * 8)  # the tables follow one another
        file.write(struct.pack(">Q", index * BLOCK_BYTES | COPIED))
    file.truncate((first_table + tables) * BLOCK_BYTES)


def extension(kind, content):
    return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)


class VolumeStore:
    """One volume's layers. `parent` is the snapshot that its next snapshot is a child of."""

    def __init__(self, folder, volume_id, size_gib, snapshot):
        self.folder, self.id, self.size_gib = pathlib.Path(folder), volume_id, size_gib
        self.parent = snapshot
        self.layers = []
        self.bottom = snapshot_image(snapshot) if snapshot else None
        self.add_layer(self.bottom)

    @property
    def top(self):
        return self.layers[-1]

    def snapshot_below(self):
        """The snapshot's image when nothing but the top lies over it: a volume that is new."""
        return self.bottom[0] if self.bottom and len(self.layers) == 1 else None

    def next_path(self):
        return self.folder / f"{self.id}.{len(self.layers)}.qcow2"

    def add_layer(self, backing):
        path = self.next_path()
        command = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if backing:
            command += ["-b", str(backing[0]), "-F", backing[1]]
        subprocess.run([*command, str(path), f"{self.size_gib}G"], check=True)
        self.layers.append(path)

    def freeze_offline(self):
        """A new layer over a volume that nobody uses; returns the frozen one."""
        frozen = self.top
        self.add_layer((frozen, "qcow2"))
        return frozen

    def snapshot_of(self, frozen, snapshot_id, folder):
        """Reads what a frozen layer changed into a pending snapshot, which then is the volume's newest."""
        snapshot = Snapshot(snapshot_id, self.size_gib, self.parent, folder / snapshot_id, 0.0)
        self.parent = snapshot
        return snapshot, lambda: self.fill(snapshot, frozen)

    def fill(self, snapshot, frozen):
        indices = changed_blocks(frozen)
        if indices:
            with NbdReader(frozen) as reader:
                for index in indices:
                    data = reader.read(index * BLOCK_BYTES, BLOCK_BYTES)
                    holder = snapshot.parent and snapshot.parent.holder(index)
                    if holder is None and data.count(0) == BLOCK_BYTES:
                        continue
                    if holder is None or holder.read(index) != data:
                        snapshot.write(index, data)

    def remove(self):
        for layer in self.layers:
            layer.unlink(missing_ok=True)


def changed_blocks(layer):
    """The blocks in which a layer holds anything of its own."""
    told = subprocess.run(["qemu-img", "map", "-U", "--output=json", str(layer)], check=True, capture_output=True)
    found = set()
    for extent in json.loads(told.stdout):
        if extent["depth"] == 0 and extent.get("present", True):
            first, last = extent["start"] // BLOCK_BYTES, (extent["start"] + extent["length"] - 1) // BLOCK_BYTES
            found.update(range(first, last + 1))
    return sorted(found)


class NbdReader:
    """Reads an image with everything below it, by qemu-nbd."""

    def __init__(self, image):
        self.socket_path = pathlib.Path(image).parent / f"{uuid.uuid4().hex[:8]}.nbd"
        source = f"driver=qcow2,force-share=on,file.driver=file,file.filename={image}"
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "qemu-nbd", "-r", "-t", "-k", str(self.socket_path), "-x", "disk",
             "--image-opts", source], stdin=subprocess.DEVNULL)

    def __enter__(self):
        self.connection = socket.socket(socket.AF_UNIX)
        try:
            self.greet()
        except OSError:
            self.__exit__()
            raise
        return self

    def greet(self):
        deadline = time.monotonic() + NBD_START_LIMIT_S
        while True:
            try:
                self.connection.connect(str(self.socket_path))
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        magic, option_magic, _flags = struct.unpack(">8s8sH", self.receive(18))
        assert (magic, option_magic) == (b"NBDMAGIC", b"IHAVEOPT")
        self.connection.sendall(struct.pack(">I", 1))
        self.connection.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk")  # the old way to name an export
        self.receive(8 + 2 + 124)

    def receive(self, count):
        data = bytearray()
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise ConnectionError("qemu-nbd ended")
            data += part
        return bytes(data)

    def read(self, offset, count):
        self.connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, offset, count))
        magic, error, _handle = struct.unpack(">IIQ", self.receive(16))
        if magic != 0x67446698 or error:
            raise OSError(error, "NBD read")
        return self.receive(count)

    def __exit__(self, *_):
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.socket_path.unlink(missing_ok=True)
