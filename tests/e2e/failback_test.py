#!/usr/bin/env python3
"""A server that ran in EC2 comes home: in rounds, with what it wrote and nothing else, whatever is killed.

time-limit: 900
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import lib
from disks import StampedDisk, stamped_page
from ec2_rig import Ec2Rig
from lib import ROOT, check, check_equal
from stores import rig_python

BLOCK_BYTES = 512 * 1024
SIZES_MIB = (80, 24)
story = lib.Story("failback")
rig = Ec2Rig(story)
reclo = story.reclo(env=rig.env)
disks = [StampedDisk(story.folder / f"disk-{i}.img", size, seed=i) for i, size in enumerate(SIZES_MIB)]
expected = [story.folder / f"expected-{i}.img" for i in range(len(disks))]
targets = [story.folder / f"home-{i}.img" for i in range(len(disks))]
state = {"generation": 1000}


def ec2(code):
    """A few lines of boto3 against the stand-in; they print JSON."""
    program = ("import boto3, json\n"
               f"ec2 = boto3.client('ec2', endpoint_url='{rig.endpoint}', region_name='us-east-1')\n" + code)
    run = subprocess.run([rig_python(), "-c", program], env={**os.environ, **rig.env}, capture_output=True,
                         text=True, check=False)
    check(run.returncode == 0, f"boto3: {run.stderr[-500:]}")
    return json.loads(run.stdout or "null")


def write_boot_sector(path):
    with open(path, "r+b") as file:
        file.write((b"\xeb\x3c\x90" + b"\x90" * 400).ljust(510, b"\0") + b"\x55\xaa")


def fail_over():
    """The server runs in EC2; its volumes hold what the recovery point does."""
    image = reclo.json("standby", "refresh", "--no-prepare", "--server", "files")["image"]
    told = ec2(f"""
run = ec2.run_instances(ImageId='{image}', InstanceType='m6i.large', MinCount=1, MaxCount=1)['Instances'][0]
one = ec2.describe_instances(InstanceIds=[run['InstanceId']])['Reservations'][0]['Instances'][0]
print(json.dumps([one['InstanceId'], {{d['DeviceName']: d['Ebs']['VolumeId'] for d in one['BlockDeviceMappings']}}]))
""")
    state["instance"], state["volumes"] = told[0], [told[1]["/dev/xvda"], told[1]["/dev/xvdb"]]
    for path, disk in zip(expected, disks):
        shutil.copy(disk.path, path)


def instance_state():
    return ec2(f"""print(json.dumps(ec2.describe_instances(InstanceIds=['{state['instance']}'])
        ['Reservations'][0]['Instances'][0]['State']['Name']))""")


def server_writes(disk, *indices, zeros=False):
    """The running server writes whole blocks of its volume; the model gets the same bytes."""
    state["generation"] += 1
    for index in indices:
        pages = b"".join(stamped_page(index * 128 + page, state["generation"]) for page in range(128))
        block = bytes(BLOCK_BYTES) if zeros else pages
        rig.lab("PUT", f"/lab/volume/{state['volumes'][disk]}/{index}", block)
        with open(expected[disk], "r+b") as file:
            file.seek(index * BLOCK_BYTES)
            file.write(block)


def seed(*extra, **options):
    places = [word for target in targets for word in ("--to", target)]
    return reclo.json("failback", "seed", "--ec2-instance", state["instance"], *places, *extra, **options)


def blocks(report):
    return [sum(r["blocks"] for r in report["rounds"] if r["disk"] == disk) for disk in range(len(disks))]


def check_home():
    for target, model in zip(targets, expected):
        check(target.read_bytes() == model.read_bytes(), f"{target.name} is not what the server holds")


def snapshots():
    return set(rig.inventory()["snapshots"])


def check_snapshots(held):
    """The standby's own, and of the failback only what its targets hold: nothing is orphaned."""
    check_equal(snapshots() - state["standby"], set(held), "snapshots besides the standby's")


@story.step
def the_plan_says_what_would_move_and_touches_nothing():
    for disk in disks:
        disk.fill(10, 3000)
    write_boot_sector(disks[0].path)
    reclo.init()
    reclo.backup("files", *(disk.path for disk in disks))
    fail_over()
    state["standby"] = snapshots()
    plan = reclo.json("failback", "plan", "--ec2-instance", state["instance"], "--to", targets[0], "--to", targets[1],
                      "--bandwidth", "1M")
    check(plan["base_bytes_max"] >= 6000 * 4096 and plan["base_seconds_max"] > 20, f"the plan: {plan}")
    check(not targets[0].exists() and reclo.json("failback", "status") == [], "planning did something")


@story.step
def a_target_that_does_not_fit_is_refused_before_anything_is_written():
    small = story.folder / "small.img"
    small.write_bytes(bytes(1 << 20))
    told = reclo.run("failback", "seed", "--ec2-instance", state["instance"], "--to", small, "--to", targets[1],
                     expect=2).stderr
    check("does not fit" in told, f"not said: {told}")
    reclo.run("failback", "seed", "--ec2-instance", state["instance"], "--to", targets[0], expect=2)
    check(small.read_bytes() == bytes(1 << 20), "the small target was written")
    check_equal(snapshots(), state["standby"], "snapshots")


@story.step
def the_first_round_fetches_what_the_surviving_disk_lacks_and_what_the_server_wrote():
    shutil.copy(disks[0].path, targets[0])  # the old disk survived, but for a few blocks
    with open(targets[0], "r+b") as file:
        file.seek(1 << 20)
        file.write(b"\xee" * (64 << 10))
    server_writes(0, 3, 4, 100)
    server_writes(1, 7)
    report = seed()
    check_home()
    check_equal(blocks(report), [3, 1], "blocks moved in the first round")
    check(report["base"]["fetched_bytes"] < 14 << 20, f"surviving blocks were fetched: {report['base']}")
    check_snapshots(disk["held"] for disk in report["disks"])
    state["first"] = {disk["held"] for disk in report["disks"]}


@story.step
def every_further_round_moves_only_what_changed_and_zeros_as_zeros():
    server_writes(0, 5)
    server_writes(0, 4, zeros=True)
    server_writes(1, 0, 47)
    report = seed("--window", "3m")
    check_home()
    check_equal(blocks(report), [2, 2], "blocks moved in the second round")
    check(report["fits_window"] is True and report["forecast"]["seconds"] < 180, f"the forecast: {report['forecast']}")
    check_snapshots(disk["held"] for disk in report["disks"])
    check(not state["first"] & snapshots(), "the first round's snapshots were not deleted")
    check_equal(sum(blocks(seed())), 0, "blocks moved when nothing changed")


@story.step
def killed_at_every_act_it_goes_on():
    names = set()
    for source in (ROOT / "src/recovery/failback").glob("*.cc"):
        names.update(re.findall(r'RECLO_KILL_POINT\("([a-z_.]+)"\)', source.read_text()))
    state["kill_points"] = names
    in_seed = {"failback.snapshot_created", "failback.snapshot_noted", "failback.block_written",
               "failback.round_written", "failback.round_noted", "failback.old_deleted"}
    check(in_seed < names, f"kill points: {names}")
    for number, name in enumerate(sorted(in_seed)):
        server_writes(0, 10 + number, 60 + number)
        server_writes(1, 10 + number)
        killed = reclo.start("failback", "seed", "--ec2-instance", state["instance"],
                             env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        server_writes(0, 11 + number)
        seed()
        report = seed()
        check_home()
        check_snapshots(disk["held"] for disk in report["disks"])


@story.step
def throttles_and_cut_connections_are_outlasted():
    server_writes(0, *range(20, 40))
    rig.lab("POST", "/lab/ebs", {"page_max": 3})
    rig.faults({"match": "GET /snapshots", "mode": "throttle", "times": 5},
               {"match": "GET /snapshots", "mode": "reset-after", "times": 3, "after": 8},
               {"match": "CreateSnapshot", "mode": "throttle", "times": 1})
    report = seed()
    rig.faults()
    rig.lab("POST", "/lab/ebs", {"page_max": 10000})
    check_equal(blocks(report)[0], 20, "blocks moved")
    check_home()


@story.step
def a_snapshot_that_somebody_deleted_costs_comparing_everything_and_is_said():
    held = reclo.json("failback", "status")[0]["disks"][1]["held"]
    rig.remove_snapshot(held)
    server_writes(1, 2)
    report = seed()
    check(any("every block" in warning for warning in report["warnings"]), f"not said: {report['warnings']}")
    check_home()
    check_snapshots(disk["held"] for disk in report["disks"])


@story.step
def another_disk_under_the_same_name_is_refused():
    aside = story.folder / "aside.img"
    targets[1].rename(aside)
    shutil.copy(aside, targets[1])
    told = reclo.run("failback", "seed", "--ec2-instance", state["instance"], expect=7).stderr
    check("another disk" in told, f"not said: {told}")
    aside.rename(targets[1])


@story.step
def the_cutover_asks_first():
    told = reclo.run("failback", "cutover", expect=2).stderr
    check("--yes" in told and instance_state() == "running", f"it did not ask: {told}")


@story.step
def killed_at_every_act_of_the_cutover_it_goes_on():
    acts = ["failback.stopping", "failback.stop_asked", "failback.stopped", "failback.last_round_begun",
            "failback.snapshot_created", "failback.block_written", "failback.round_written", "failback.round_noted",
            "failback.verified", "failback.unprepared", "failback.cleaned"]
    check(set(acts) < state["kill_points"], f"kill points: {state['kill_points']}")
    server_writes(0, 1, 2)
    server_writes(1, 3)
    killed_at = []
    for name in acts:
        killed = reclo.start("failback", "cutover", "--yes", env_extra={"RECLO_KILL_POINT": name})
        code = killed.wait(180)
        check_equal(code, 137, f"exit code at {name}")
        killed_at.append(name)
    report = reclo.json("failback", "cutover", "--yes", reclo.json("failback", "status")[0]["id"])
    check_equal(report["state"], "done", "the state")
    check_home()
    check_equal(instance_state(), "stopped", "the instance")
    check_snapshots([])


@story.step
def a_cutover_in_one_go_verifies_and_leaves_nothing_but_a_stopped_instance():
    reclo.backup("files", *(disk.path for disk in disks))
    fail_over()
    state["standby"] = snapshots()
    for target in targets:
        target.unlink()
    server_writes(0, 8, 9)
    seed()
    server_writes(0, 9, 50)
    server_writes(1, 30)
    report = reclo.json("failback", "cutover", "--yes")
    check_home()
    check_equal(blocks(report), [2, 1], "blocks of the last round")
    check(report["verified_blocks"] > 3, f"{report['verified_blocks']} blocks were verified")
    check_equal(instance_state(), "stopped", "the instance")
    check_snapshots([])


@story.step
def a_target_that_does_not_hold_what_was_written_is_found_and_mended():
    reclo.backup("files", *(disk.path for disk in disks))
    fail_over()
    state["standby"] = snapshots()
    server_writes(0, 8)
    seed()
    with open(targets[0], "r+b") as file:  # every block that holds data is spoilt: a sample must meet one
        for block in range(24):
            file.seek(block * BLOCK_BYTES)
            file.write(b"spoilt")
    told = reclo.run("failback", "cutover", "--yes", expect=5).stderr
    check("is not what" in told and "again" in told, f"not said: {told}")
    check_equal(instance_state(), "stopped", "the instance")
    reclo.run("failback", "cutover", "--yes")
    check_home()
    ec2(f"ec2.start_instances(InstanceIds=['{state['instance']}'])")
    for target in targets:
        target.unlink()
    seed()


@story.step
def abandoned_it_leaves_nothing_in_the_cloud():
    reclo.run("failback", "abandon", "--yes")
    check_snapshots([])
    check_equal([one["state"] for one in reclo.json("failback", "status")], ["done", "done", "done", "abandoned"], "states")
    reclo.run("failback", "cutover", "--yes", expect=3)


@story.step
def without_the_standbys_record_every_block_is_fetched_and_it_says_so():
    other = story.reclo(env=rig.env, repo=reclo.repo)
    ec2(f"ec2.start_instances(InstanceIds=['{state['instance']}'])")
    for target in targets:
        pathlib.Path(target).unlink()
    server_writes(0, 12)
    report = other.json("failback", "seed", "--ec2-instance", state["instance"], "--to", targets[0],
                        "--to", targets[1])
    check_equal(report["base"]["fetched_bytes"], 0, "fetched of the recovery point")
    check_home()
    other.run("failback", "abandon", "--yes")
    check_snapshots([])


@story.step
def blocks_that_a_preparation_changed_come_home_with_the_first_round():
    reclo.backup("files", *(disk.path for disk in disks))
    fail_over()
    state["standby"] = snapshots()
    for target in targets:
        target.unlink(missing_ok=True)
    record, = reclo.state.rglob("standby.json")
    standby = json.loads(record.read_text())
    standby["current"]["disks"][0]["overlay_blocks"] = [[5, 7], [159, 160]]  # 159 reads as zeros
    record.write_text(json.dumps(standby))
    server_writes(0, 6, 9)
    check_equal(blocks(seed()), [4, 0], "blocks of the first round: those, and what the server wrote")
    check_home()
    check_equal(sum(blocks(seed())), 0, "blocks of the second round")
    reclo.run("failback", "abandon", "--yes")
    check_snapshots([])


@story.step
def the_policy_names_every_action():
    policy = json.loads(reclo.run("policy", "print", "--for", "ec2").stdout)
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    log = rig.lab("GET", "/lab/stats")["log"]
    asked = {f"ec2:{line.split()[2]}" for line in log if line.startswith("POST / ")}
    asked |= {"ebs:ListChangedBlocks"} if any("/changedblocks" in line for line in log) else set()
    check("ec2:CreateSnapshot" in asked and "ebs:ListChangedBlocks" in asked, f"only {sorted(asked)}")
    check(asked <= allowed, f"asked and not allowed: {sorted(asked - allowed)}")


@story.step
def a_denied_action_is_named():
    rig.faults({"match": "CreateSnapshot", "mode": "denied", "times": 1000})
    told = reclo.run("failback", "seed", "--ec2-instance", state["instance"], "--to", targets[0], "--to", targets[1],
                     expect=4).stderr
    rig.faults()
    check("ec2:CreateSnapshot" in told, f"not named: {told[-300:]}")
    reclo.run("failback", "abandon", "--yes")


story.run()
