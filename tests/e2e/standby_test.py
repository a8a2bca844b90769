#!/usr/bin/env python3
"""A server's standby in EC2: made, refreshed, lost, interrupted everywhere, dropped; always what the point holds.

time-limit: 600
quick-suite
"""

import json
import re
import shutil

import lib
from disks import StampedDisk
from ec2_rig import Ec2Rig
from lib import ROOT, check, check_equal

SIZE_MIB = 80
BLOCK_BYTES = 512 * 1024
story = lib.Story("standby")
rig = Ec2Rig(story)
reclo = story.reclo(env=rig.env)
disks = [StampedDisk(story.folder / "boot.img", SIZE_MIB, seed=1), StampedDisk(story.folder / "data.img", 24, seed=2)]
state = {}


def write_boot_sector():
    """As little as makes a disk look as if BIOS could boot it."""
    with open(disks[0].path, "r+b") as file:
        file.write((b"\xeb\x3c\x90" + b"\x90" * 400).ljust(510, b"\0") + b"\x55\xaa")


def back_up():
    state["point"] = reclo.backup("files", *(disk.path for disk in disks))
    for number, disk in enumerate(disks):
        shutil.copy(disk.path, story.folder / f"expected-{number}.img")


def refresh(*extra, **options):
    return reclo.json("standby", "refresh", "--no-prepare", "--server", "files", *extra, **options)


def check_standby(report):
    """The standby's snapshots hold the point, and the account holds nothing else."""
    check_equal(report["point"], state["point"], "the standby's point")
    for disk in report["disks"]:
        image = story.folder / "exported.img"
        expected = story.folder / f"expected-{disk['index']}.img"
        rig.read_snapshot(disk["snapshot"], image, disk["size_bytes"])
        check(image.read_bytes() == expected.read_bytes(), f"disk {disk['index']} in EC2 is not what was backed up")
    held = rig.inventory()
    check_equal(held["images"], [report["image"]], "images in the account")
    check_equal(held["snapshots"], sorted(disk["snapshot"] for disk in report["disks"]), "snapshots in the account")


@story.step
def a_first_refresh_puts_all_data_and_no_zeros():
    for disk in disks:
        disk.fill(10, 3000)
    write_boot_sector()
    reclo.init()
    back_up()
    report = refresh()
    check(report["full"], "the first refresh is a full one")
    check(report["blocks_put"] * BLOCK_BYTES < 30 << 20, f"{report['blocks_put']} blocks for 24 MiB of data")
    check(report["blocks_read_back"] > 0, "nothing was read back")
    check_equal(report["requests"]["ec2:RegisterImage"], 1, "images registered")
    check_standby(report)


@story.step
def the_same_point_again_does_nothing():
    report = refresh()
    check(report["unchanged"] and not report["blocks_put"], f"it did something: {report}")
    check_standby(report)


@story.step
def a_second_refresh_puts_what_changed_and_zeros_as_zeros():
    disks[0].scatter(5)
    with open(disks[1].path, "r+b") as file:  # what becomes zero must not show the parent's data
        file.seek(2 << 20)
        file.write(bytes(1 << 20))
    write_boot_sector()
    back_up()
    report = refresh()
    check(not report["full"] and report["blocks_put"] <= 9, f"put {report['blocks_put']} blocks")
    check_standby(report)
    state["requests"] = report["requests"]


@story.step
def the_policy_allows_what_was_asked_and_no_more():
    allowed = json.loads(reclo.run("policy", "print", "--for", "ec2").stdout)["Statement"][0]["Action"]
    asked = set(state["requests"]) | {"ec2:CreateTags"}  # AWS wants that for tags given on creation
    check_equal(sorted(asked), sorted(allowed), "actions asked, and allowed")


@story.step
def another_machine_leaves_this_ones_standby_alone():
    other = story.reclo(env=rig.env, repo=reclo.repo)
    before = rig.inventory()
    theirs = other.json("standby", "refresh", "--no-prepare", "--server", "files")
    check(set(before["snapshots"]) < set(rig.inventory()["snapshots"]), "it removed what it had not made")
    report = refresh("--full")
    check(theirs["image"] in rig.inventory()["images"], "the other machine's standby is gone")
    for snapshot in [disk["snapshot"] for disk in theirs["disks"]]:
        rig.remove_snapshot(snapshot)
    check_standby(report)


@story.step
def nothing_changed_makes_an_empty_child():
    back_up()
    report = refresh()
    check_equal((report["full"], report["blocks_put"]), (False, 0), "full, blocks put")
    check_standby(report)


@story.step
def a_disk_that_grew_is_still_a_child():
    with open(disks[0].path, "r+b") as file:
        file.truncate((SIZE_MIB + 100) << 20)
    disks[0].pages = (SIZE_MIB + 100) * 256
    disks[0].write([disks[0].pages - 1])
    back_up()
    report = refresh()
    check(not report["full"], "growing cost the lineage")
    check_standby(report)


@story.step
def a_lost_lineage_is_said_and_costs_a_full_one():
    rig.remove_snapshot(reclo.json("standby", "status", "--server", "files")["current"]["disks"][1]["snapshot"])
    disks[1].scatter(3)
    back_up()
    report = refresh()
    check(report["full"] and any("gone" in warning for warning in report["warnings"]), f"not said: {report}")
    check_standby(report)


@story.step
def a_standby_that_runs_is_kept_for_its_way_home():
    before = reclo.json("standby", "status", "--server", "files")["current"]
    started = rig.ec2("run_instances", ImageId=before["image"], MinCount=1, MaxCount=1, InstanceType="t3.small")
    disks[0].scatter(3)
    write_boot_sector()
    back_up()
    report = refresh()
    check(any("is kept" in warning for warning in report["warnings"]), f"not said: {report['warnings']}")
    check_equal(rig.inventory()["images"], sorted([before["image"], report["image"]]), "images in the account")
    rig.ec2("terminate_instances", InstanceIds=[started["Instances"][0]["InstanceId"]])
    check(refresh()["unchanged"], "the same point was put again")
    check_standby(report)


@story.step
def killed_at_every_step_it_goes_on():
    names = set()
    for source in (ROOT / "src/recovery/ec2").glob("*.cc"):
        names.update(re.findall(r'RECLO_KILL_POINT\("(standby\.[a-z_]+)"\)', source.read_text()))
    check(len(names) >= 7, f"only {sorted(names)}")
    for name in sorted(names):
        disks[0].scatter(6)
        write_boot_sector()
        back_up()
        killed = reclo.start("standby", "refresh", "--no-prepare", "--server", "files", env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        check_standby(refresh())


@story.step
def an_interrupted_refresh_of_an_older_point_leaves_nothing():
    disks[0].scatter(6)
    back_up()
    killed = reclo.start("standby", "refresh", "--no-prepare", "--server", "files",
                         env_extra={"RECLO_KILL_POINT": "standby.snapshot_started"})
    check_equal(killed.wait(120), 137, "exit code")
    disks[0].scatter(6)
    back_up()
    check_standby(refresh())


@story.step
def throttles_outages_and_late_snapshots_are_outlasted():
    disks[0].scatter(20)
    back_up()
    rig.lab("POST", "/lab/ebs", {"visible_after_s": 1.5, "page_max": 3})
    rig.faults({"match": "PUT /snapshots", "mode": "throttle", "times": 6},
               {"match": "PUT /snapshots", "mode": "reset-after", "times": 3, "after": 8},
               {"match": "RegisterImage", "mode": "throttle", "times": 2})
    report = refresh()
    rig.faults()
    rig.lab("POST", "/lab/ebs", {"visible_after_s": 0, "page_max": 10000})
    check_standby(report)


@story.step
def a_denied_action_is_named_with_what_is_missing():
    disks[0].scatter(6)
    back_up()
    for match, action in (("PUT /snapshots", "ebs:PutSnapshotBlock"), ("RegisterImage", "ec2:RegisterImage")):
        rig.faults({"match": match, "mode": "denied", "times": 1000})
        told = reclo.run("standby", "refresh", "--no-prepare", "--server", "files", expect=4).stderr
        check(action in told and '"Effect": "Allow"' in told, f"{action} is not named: {told[-400:]}")
    rig.faults()
    check_standby(refresh())


@story.step
def a_snapshot_that_ends_in_an_error_is_begun_anew():
    disks[0].scatter(6)
    back_up()
    killed = reclo.start("standby", "refresh", "--no-prepare", "--server", "files",
                         env_extra={"RECLO_KILL_POINT": "standby.block_put"})
    check_equal(killed.wait(120), 137, "exit code")
    pending = reclo.json("standby", "status", "--server", "files")["pending"]
    rig.lab("POST", f"/lab/fail-snapshot/{pending['disks'][0]['snapshot']}")
    report = refresh()
    check(any("starting anew" in warning for warning in report["warnings"]), f"not said: {report['warnings']}")
    check_standby(report)


@story.step
def a_disk_without_a_boot_loader_is_refused_in_words():
    plain = StampedDisk(story.folder / "plain.img", 8, seed=9)
    plain.fill(1, 100)
    reclo.backup("plain", plain.path)
    told = reclo.run("standby", "refresh", "--no-prepare", "--server", "plain", expect=1).stderr
    check("boot loader" in told, f"not said: {told[-300:]}")


@story.step
def dropped_it_leaves_nothing():
    reclo.run("standby", "drop", "--server", "files")
    reclo.run("standby", "drop", "--server", "plain")
    check_equal(rig.inventory(), {"images": [], "snapshots": []}, "what the account holds")
    reclo.run("standby", "status", "--server", "files", expect=3)


story.run()
