"""The benchmark's disk and what happens to it: a real Debian server with a database and documents.

The disk is an image file; its root file system is changed through a loop mount, by the programs that
would change it (PostgreSQL, dpkg-like unpacking, editing), so root is needed.
"""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = 4096
PACKAGES = "python3,perl,git,gcc,libpython3-stdlib,fonts-dejavu,imagemagick-6-common,vim-runtime,libicu-dev"


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def partition_offset_bytes(disk):
    table = json.loads(run("sfdisk", "-J", disk, capture_output=True, text=True).stdout)
    return table["partitiontable"]["partitions"][-1]["start"] * 512


@contextlib.contextmanager
def mounted(disk):
    """The root file system of the disk, mounted; unmounted and on the disk afterwards."""
    with tempfile.TemporaryDirectory(prefix="reclo-bench-mount.") as folder:
        run("mount", "-o", f"loop,offset={partition_offset_bytes(disk)}", disk, folder)
        try:
            yield pathlib.Path(folder)
        finally:
            run("sync")
            run("umount", folder)


def make_documents(folder, rng, compressible_bytes, incompressible_bytes):
    """Letters and tables that compress, photos and scans that do not."""
    words = [word.strip() for word in open("/usr/share/common-licenses/GPL-3").read().split()]
    folder.mkdir(parents=True, exist_ok=True)
    made, number = 0, 0
    while made < compressible_bytes:
        size = rng.randrange(20_000, 400_000)
        text = " ".join(rng.choices(words, k=size // 6)).encode()
        (folder / f"letter-{number}.txt").write_bytes(text)
        made, number = made + len(text), number + 1
    made = 0
    while made < incompressible_bytes:
        size = rng.randrange(500_000, 6_000_000)
        (folder / f"scan-{number}.jpg").write_bytes(rng.randbytes(size))
        made, number = made + size, number + 1


def in_database(root, script):
    """Runs a shell script as postgres in the server's root, with its database running on a socket."""
    server = (f"set -e; export PATH=/usr/lib/postgresql/15/bin:$PATH; "
              f"pg_ctl -s -w -D /var/lib/postgresql/15/main "
              f"-o \"-c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses= "
              f"-c unix_socket_directories=/tmp -c dynamic_shared_memory_type=mmap -c logging_collector=off\" "
              f"-l /tmp/bench-postgres.log start; "
              f"trap 'pg_ctl -s -w -m fast -D /var/lib/postgresql/15/main stop' EXIT; export PGHOST=/tmp; {script}")
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "--bind", "/dev", root / "dev")
    try:
        done = subprocess.run(["chroot", root, "su", "postgres", "-s", "/bin/bash", "-c", server], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"in the server's database: {script}: {done.stderr[-1000:]}")
    finally:
        run("umount", root / "dev")
        run("umount", root / "proc")


def make_disk(disk, size="8G", scale=35):
    """8 GiB with about 2.8 GiB used."""
    env = dict(os.environ, PACKAGES=PACKAGES, HOSTNAME_="bench")
    run(ROOT / "tests/servers/make-debian.sh", disk, size, env=env)
    rng = random.Random(1)
    with mounted(disk) as root:
        make_documents(root / "srv/documents", rng, 450_000_000, 550_000_000)
        in_database(root, f"createdb bench; pgbench -q -i -s {scale} bench")


def overwrite_in_files(disk, rng, total_bytes, write_bytes=8192):
    """1 % random change: 8 KiB of new random bytes at random places inside the server's documents.

    The database's own files are left to the database: it would refuse its damaged pages afterwards."""
    with mounted(disk) as root:
        files = sorted(path for path in (root / "srv/documents").rglob("*")
                       if path.is_file() and path.stat().st_size >= 16 * write_bytes)
        weights = [path.stat().st_size for path in files]
        for _ in range(total_bytes // write_bytes):
            path = rng.choices(files, weights)[0]
            with open(path, "r+b") as file:
                file.seek(rng.randrange(path.stat().st_size // write_bytes) * write_bytes)
                file.write(rng.randbytes(write_bytes))


def apt_like(disk, rng):
    """An upgrade: some packages' files replaced by new versions beside the old, then renamed over them."""
    with mounted(disk) as root:
        # Not what the server boots and PostgreSQL runs on: the new versions are damaged ones.
        tops = ("usr/share/doc", "usr/share/fonts", "usr/share/vim", "usr/share/locale", "usr/share/icu",
                "usr/lib/python3", "usr/lib/git-core", "usr/lib/gcc")
        files = sorted(path for top in tops for path in (root / top).rglob("*")
                       if path.is_file() and not path.is_symlink())
        changed = 0
        while changed < 60_000_000:
            path = rng.choice(files)
            content = bytearray(path.read_bytes())
            if not content:
                continue
            for _ in range(max(1, len(content) // 20000)):
                at = rng.randrange(len(content))
                content[at:at + 64] = rng.randbytes(min(64, len(content) - at))
            new = path.with_name(path.name + ".dpkg-new")
            new.write_bytes(content)
            os.chmod(new, path.stat().st_mode)
            os.replace(new, path)
            changed += len(content)


def pgbench_like(disk, seconds=15):
    with mounted(disk) as root:
        in_database(root, f"pgbench -n -c 4 -T {seconds} bench")


def edit_documents(disk, rng, total_bytes=12_000_000):
    """An ordinary hour: a few documents changed, one added, one removed."""
    with mounted(disk) as root:
        folder = root / "srv/documents"
        files = sorted(folder.iterdir())
        done = 0
        while done < total_bytes:
            path = rng.choice(files)
            content = rng.randbytes(min(path.stat().st_size, 400_000))
            path.write_bytes(content)
            done += len(content)
        (folder / f"new-{rng.randrange(10**9)}.txt").write_bytes(b"a new letter\n" * 5000)
        rng.choice(files).unlink(missing_ok=True)


def changed_pages(before, after):
    """How many 4 KiB pages differ, and their size after zstd -1."""
    count = 0
    with tempfile.TemporaryFile() as pages, open(before, "rb") as old, open(after, "rb") as new:
        size = os.fstat(new.fileno()).st_size
        step = 1 << 20
        at = 0
        while at < size:
            data = min(next_data(old, at, size), next_data(new, at, size))
            if data >= size:
                break
            at = data // step * step
            a, b = os.pread(old.fileno(), step, at), os.pread(new.fileno(), step, at)
            if a != b:
                for offset in range(0, len(b), PAGE):
                    if a[offset:offset + PAGE] != b[offset:offset + PAGE]:
                        pages.write(b[offset:offset + PAGE])
                        count += 1
            at += step
        pages.seek(0)
        packed = subprocess.run(["zstd", "-1", "-q", "-c"], stdin=pages, capture_output=True, check=True).stdout
    return count, len(packed)


def next_data(file, at, size):
    try:
        return os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError:
        return size
