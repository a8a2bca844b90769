#!/usr/bin/env python3
"""Every disk format in and out: a server with several disks, restored into each format and updated in place.

quick-suite
"""

import lib
from disks import StampedDisk, convert, same_content
from lib import check, check_equal

story = lib.Story("formats")
reclo = story.reclo()
disk = StampedDisk(story.folder / "plain.img", 64)
state = {}


@story.step
def backs_up_each_format():
    disk.fill(100, 2500)
    reclo.init()
    for image_format in ("qcow2", "vpc", "vhdx", "vmdk"):
        image = story.folder / f"disk.{image_format}"
        # A VHD's size is rounded to its geometry unless told not to.
        convert(disk.path, image, image_format, *(["-o", "force_size=on"] if image_format == "vpc" else []))
        point = reclo.backup(f"as-{image_format}", image)
        restored = story.folder / "restored.img"
        reclo.run("restore", point, "--to", restored)
        check_equal(disk.first_difference(restored, disk.model), None, f"what was read from {image_format}")
        restored.unlink()
        image.unlink()


@story.step
def several_disks_are_one_point():
    state["second"] = StampedDisk(story.folder / "second.img", 16, seed=2)
    state["second"].fill(7, 300)
    state["point"] = reclo.backup("twodisks", disk.path, state["second"].path)
    check_equal(len(reclo.json("show", state["point"])["disks"]), 2, "disks of the point")
    for number, original in ((0, disk), (1, state["second"])):
        restored = story.folder / "restored.img"
        reclo.run("restore", state["point"], "--disk", number, "--to", restored)
        check_equal(original.first_difference(restored, original.model), None, f"disk {number}")
        restored.unlink()


@story.step
def restores_into_each_format():
    for image_format in ("raw", "qcow2", "vhd", "vhdx", "vmdk"):
        restored = story.folder / f"restored.{image_format}"
        reclo.run("restore", state["point"], "--disk", 0, "--to", restored, "--format", image_format)
        check(same_content(disk.path, restored), f"the restored {image_format} differs from the disk")
        restored.unlink()


@story.step
def a_restore_keeps_holes():
    restored = story.folder / "restored.img"
    reclo.run("restore", state["point"], "--disk", 0, "--to", restored)
    check(restored.stat().st_blocks * 512 < 24 << 20, "the holes were written")
    state["restored"] = restored


@story.step
def diff_names_the_changed_ranges():
    disk.write([0, 1, 9000])
    later = reclo.backup("twodisks", disk.path, state["second"].path)
    ranges = reclo.json("diff", state["point"], later)
    changed = {(entry["disk"], page) for entry in ranges for page in
               range(entry["offset_bytes"] // 4096, (entry["offset_bytes"] + entry["length_bytes"]) // 4096)}
    check({(0, 0), (0, 1), (0, 9000)} <= changed, f"a changed page is missing: {ranges}")
    check(all(number == 0 for number, _ in changed), f"the second disk did not change: {ranges}")
    check(len(changed) < 400, f"{len(changed)} pages for three")
    state["later"] = later


@story.step
def a_restore_updates_a_target_that_holds_most():
    reclo.run("restore", state["later"], "--disk", 0, "--to", state["restored"], "--force")
    check_equal(disk.first_difference(state["restored"], disk.model), None, "the updated target")


story.run()
