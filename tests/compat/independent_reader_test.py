#!/usr/bin/env python3
"""The format document is enough: tests/compat/reader.py, which shares no code with ReClo, restores
what reclo wrote: fulls, incrementals with patches, several disks, odd sizes, grown and shrunken disks.

quick-suite
time-limit: 600
"""

import pathlib
import random
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import lib  # noqa: E402
from disks import MIB, PAGE_BYTES, stamped_page  # noqa: E402
from lib import check, check_equal  # noqa: E402

story = lib.Story("independent_reader")
reclo = story.reclo()
PYTHON = subprocess.run([HERE.parent / "rigs" / "venv.sh"], capture_output=True, text=True,
                        check=True).stdout.strip()
CODE_FILE = story.folder / "code"
PASSPHRASE_FILE = reclo.folder / "passphrase"
# A disk of many segments and an odd size, and a small one of one segment.
DISKS = [story.folder / "large.img", story.folder / "small.img"]
SIZES = [301 * MIB + 5 * 512, 3 * MIB + 100]
rolls = random.Random(7)
copies = {}  # point -> what each disk held


def write(disk, offset, content):
    with open(disk, "r+b") as file:
        file.seek(offset)
        file.write(content)


def back_up(server="twodisks"):
    """Returns the new point's id; keeps copies of the disks, holes and all."""
    point = reclo.backup(server, *DISKS)
    copies[point] = []
    for disk in DISKS:
        copy = story.folder / f"{point}-{disk.name}"
        subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
        copies[point].append(copy)
    return point


def read(*arguments, words="--code-file", file=CODE_FILE, expect=0):
    result = subprocess.run([PYTHON, HERE / "reader.py", reclo.repo, words, file, *map(str, arguments)],
                            capture_output=True, text=True, check=False, timeout=300)
    check_equal(result.returncode, expect, f"exit code of reader.py ({result.stderr.strip()[-300:]})")
    check_equal("Traceback" in result.stderr, False, "a Python traceback")
    return result


def compare(point, spelled=None, **words):
    for number, copy in enumerate(copies[point]):
        out = story.folder / "restored.img"
        read("--point", spelled or point, "--disk", number, "--to", out, **words)
        check_equal(out.stat().st_size, copy.stat().st_size, f"size of disk {number}")
        same = subprocess.run(["cmp", out, copy], capture_output=True, text=True, check=False)
        check_equal(same.returncode, 0, f"disk {number} of {point} ({same.stdout.strip()})")
        out.unlink()


@story.step
def a_full_backup_is_read():
    CODE_FILE.write_text(reclo.init()["recovery_code"] + "\n")
    for disk, size in zip(DISKS, SIZES):
        with open(disk, "wb") as file:
            file.truncate(size)
    for first in (0, 1, 700, 2047, 50000):
        write(DISKS[0], first * PAGE_BYTES, b"".join(stamped_page(first + i, 0) for i in range(300)))
    write(DISKS[0], 60 * MIB, rolls.randbytes(9 * MIB))  # incompressible
    write(DISKS[0], 90 * MIB, b"all the same " * (MIB // 4))
    write(DISKS[0], SIZES[0] - 700, b"e" * 700)  # the last page is not whole
    write(DISKS[1], SIZES[1] - 10, b"0123456789")
    write(DISKS[1], MIB, rolls.randbytes(MIB))
    compare(back_up())


@story.step
def incrementals_with_patches_are_read():
    for generation in range(1, 5):
        for _ in range(150):
            page = rolls.randrange(75000)
            write(DISKS[0], page * PAGE_BYTES, stamped_page(page, generation))
        for _ in range(40):
            write(DISKS[0], 60 * MIB + rolls.randrange(9 * MIB - 5000), rolls.randbytes(5000))
        write(DISKS[0], rolls.randrange(60) * MIB, bytes(MIB))  # zeros where data was
        write(DISKS[1], rolls.randrange(SIZES[1] - 9), b"changed!!")
        back_up()
    for point in copies:
        compare(point)


@story.step
def a_passphrase_opens_it_too():
    newest = list(copies)[-1]
    compare(newest, "latest", words="--passphrase-file", file=PASSPHRASE_FILE)
    compare(newest, "latest:twodisks")
    compare(newest, newest[:12])


@story.step
def a_grown_disk_is_read():
    # Past 256 segments: the map gets another level.
    with open(DISKS[0], "r+b") as file:
        file.truncate(1030 * MIB)
    write(DISKS[0], 1029 * MIB, rolls.randbytes(PAGE_BYTES))
    with open(DISKS[1], "r+b") as file:
        file.truncate(9 * MIB)
    write(DISKS[1], 8 * MIB, b"grown")
    compare(back_up())
    compare(list(copies)[0])


@story.step
def a_shrunken_disk_forgets_its_end():
    # To the middle of a segment, below a power of 256 segments, and back: nothing old may come again.
    for sizes in ((67 * MIB + 512, 5 * MIB + 1), (1030 * MIB, 9 * MIB)):
        for disk, size in zip(DISKS, sizes):
            with open(disk, "r+b") as file:
                file.truncate(size)
        compare(back_up())


@story.step
def a_resumed_backup_is_read():
    # Its packs come from two runs, with a data key each.
    write(DISKS[0], 200 * MIB, rolls.randbytes(48 * MIB))
    reclo.env["RECLO_KILL_POINT"] = "pack.uploaded:2"
    reclo.run("backup", "--server", "twodisks", *DISKS, expect=None)
    del reclo.env["RECLO_KILL_POINT"]
    point = back_up()
    # What the killed run was still writing (.tmp-*) is no pack.
    packs = [path.name for path in pathlib.Path(reclo.repo).glob(f"machines/*/packs/{point}/[!.]*")]
    check_equal(sorted({name[:2] for name in packs}), ["00", "01"], "runs of the resumed session")
    compare(point)


@story.step
def a_second_server_and_its_list():
    write(DISKS[1], 0, b"another server")
    point = back_up("second")
    compare(point)
    listed = read().stdout.splitlines()
    check_equal(sorted(line.split()[0] for line in listed), sorted(copies), "the listed points")
    known = reclo.json("points")
    known = known if isinstance(known, list) else known["points"]
    check_equal(len(known), len(listed), "number of points")


@story.step
def wrong_words_are_refused():
    wrong = story.folder / "wrong"
    wrong.write_text("wrong words\n")
    check("no key slot opens" in read(words="--passphrase-file", file=wrong, expect=1).stderr,
          "another message")
    code = CODE_FILE.read_text().strip()
    wrong.write_text(code[:-1] + ("0" if code[-1] != "0" else "1"))
    check("mistyped" in read(file=wrong, expect=1).stderr, "another message")


story.run()
