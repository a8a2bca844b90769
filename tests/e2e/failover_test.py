#!/usr/bin/env python3
"""Failing over to EC2: from a standby, cold, into a drill; interrupted everywhere, refused, cut off: one instance.

The instances of this stand-in do not boot: what is tested here is that there is one, of the right image, in the right
group, and nothing left when it is deleted.
time-limit: 1500
"""

import json
import re
import shutil
import time

import lib
from disks import StampedDisk
from ec2_account import Account
from ec2_rig import Ec2Rig
from lib import ROOT, check, check_equal

story = lib.Story("failover")
rig = Ec2Rig(story, buckets=["imports"])
account = Account(rig)
reclo = story.reclo(env=rig.env)
disks = [StampedDisk(story.folder / "boot.img", 48, seed=1), StampedDisk(story.folder / "data.img", 8, seed=2)]
state = {}
# These disks hold no system that could be prepared.
RECOVER = ("recover", "latest:files", "--no-prepare", "--on", "ec2")
IMPORT = (*RECOVER, "--via", "import", "--import-bucket", "imports", "--s3-endpoint", rig.endpoint)


def write_boot_sector():
    """As little as makes a disk look as if BIOS could boot it."""
    with open(disks[0].path, "r+b") as file:
        file.write((b"\xeb\x3c\x90" + b"\x90" * 400).ljust(510, b"\0") + b"\x55\xaa")


def back_up():
    state["point"] = reclo.backup("files", *(disk.path for disk in disks))
    for number, disk in enumerate(disks):
        shutil.copy(disk.path, story.folder / f"expected-{number}.img")


def recover(*extra, **options):
    return reclo.json(*RECOVER, *extra, **options)


def stop(instance):
    reclo.run("stop", instance["id"], "--delete")


def check_nothing_but_the_standby():
    held = rig.inventory()
    check_equal(held["images"], [state["standby"]["image"]], "images in the account")
    check_equal(held["snapshots"], sorted(disk["snapshot"] for disk in state["standby"]["disks"]), "snapshots")
    check_equal(account.instances(), [], "instances in the account")
    check_equal(account.groups(), [], "security groups in the account")


def check_one(instance):
    """One instance in the account, the one that reclo tells of, with the point's blocks."""
    check_equal([found["id"] for found in account.instances()], [instance["instance"]], "instances in the account")
    check_equal(instance["point"], state["point"], "its recovery point")
    check(instance["running"] and instance["rto_ms"] is not None, f"it does not run: {instance}")


def check_content(instance):
    for number, snapshot in enumerate(account.image_snapshots(instance["image"])):
        image, expected = story.folder / "exported.img", story.folder / f"expected-{number}.img"
        rig.read_snapshot(snapshot, image, expected.stat().st_size)
        check(image.read_bytes() == expected.read_bytes(), f"disk {number} in EC2 is not what was backed up")


def kill_points(*files):
    names = []
    for file in files:
        names += re.findall(r'RECLO_KILL_POINT\("(failover\.[a-z_]+)"\)',
                            (ROOT / "src/recovery/ec2" / file).read_text())
    return names


@story.step
def a_standby_is_started_in_one_step():
    disks[0].fill(10, 2000)
    disks[1].fill(3, 50)
    write_boot_sector()
    reclo.init()
    back_up()
    state["standby"] = reclo.json("standby", "refresh", "--no-prepare", "--server", "files")
    instance = recover("--operator-cidr", "127.0.0.0/8")
    check_one(instance)
    check_equal((instance["via"], instance["image"]), ("standby", state["standby"]["image"]), "what was started")
    check_equal(instance["instance_type"], "m7i.large", "type")
    check_equal([step["name"] for step in instance["steps"]], ["checks", "image", "network", "instance"], "steps")
    state["instance"] = instance
    state["asked"] = set(instance["requests"])


@story.step
def the_same_command_again_tells_of_the_same_instance():
    instance = recover("--operator-cidr", "127.0.0.0/8")
    check(instance["was_running"] and instance["id"] == state["instance"]["id"], f"another one: {instance['id']}")
    check_one(instance)


@story.step
def the_guest_is_told_that_it_is_a_copy():
    text = account.user_data(state["instance"]["instance"])
    check(text.startswith("#cloud-config\n"), text[:60])
    marker = json.loads(json.loads(text.split("\n", 1)[1])["write_files"][0]["content"])
    check_equal((marker["recovered_from"], marker["drill"]), (state["point"], False), "the marker")
    check(account.instances()[0]["tags"]["reclo-point"] == state["point"], "the instance's tags do not tell the point")


@story.step
def its_group_admits_the_operator_and_the_vpn_only():
    group, = account.groups()
    ingress = sorted((rule["protocol"], rule["port"], rule["cidr"]) for rule in group["ingress"])
    check_equal(ingress, [("-1", None, "127.0.0.0/8"), ("udp", 51820, "0.0.0.0/0")], "who is let in")
    check(group["egress"], "a server that was failed over must get out")


@story.step
def it_is_listed_stopped_and_resumed():
    listed, = reclo.json("instances")
    check_equal((listed["target"], listed["asked"], listed["ec2_state"]), ("ec2", True, "running"), "listed as")
    reclo.run("stop", listed["id"])
    check_equal(reclo.json("instances")[0]["ec2_state"], "stopped", "state after stop")
    resumed = reclo.json("resume", listed["id"])
    check_equal(resumed["instance"], listed["instance"], "the instance that was resumed")
    check_one(resumed)


@story.step
def out_of_reach_it_is_listed_as_last_known():
    rig.faults({"match": "DescribeInstances", "mode": "reset", "times": 1000})
    listed, = reclo.json("instances")
    rig.faults()
    check_equal((listed["asked"], listed["ec2_state"]), (False, "running"), "listed as")


@story.step
def deleted_it_leaves_the_standby_and_nothing_else():
    stop(state["instance"])
    check_nothing_but_the_standby()
    check_equal(reclo.json("instances"), [], "instances")


@story.step
def killed_at_every_step_there_is_one_instance():
    names = kill_points("failover.cc", "failover_network.cc", "failover_launch.cc")
    check(len(names) >= 8, f"only {names}")
    for name in names:
        killed = reclo.start(*RECOVER, env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        instance = recover()
        check_one(instance)
        stop(instance)
        check_nothing_but_the_standby()


@story.step
def killed_while_it_is_deleted_nothing_stays():
    names = [name for name in kill_points("failover_stop.cc", "failover_image.cc")
             if re.search("deleting|terminated|removed", name)]
    check(len(names) >= 5, f"only {names}")
    for name in names:
        instance = recover("--via", "cold")
        killed = reclo.start("stop", instance["id"], "--delete", env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        told = reclo.run(*RECOVER, expect=7).stderr
        check("being deleted" in told, told)
        stop(instance)
        check_nothing_but_the_standby()


@story.step
def killed_while_it_is_started_and_deleted_nothing_stays():
    for name in ("failover.group_made", "failover.launch_noted", "failover.instance_started"):
        killed = reclo.start(*RECOVER, env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        stop(reclo.json("instances")[0])
        check_nothing_but_the_standby()


@story.step
def cold_puts_everything_and_starts_it():
    instance = recover("--via", "cold", "--instance-type", "t3.large", "--name", "cold one")
    check_one(instance)
    check_equal((instance["via"], instance["instance_type"]), ("cold", "t3.large"), "how")
    check_content(instance)
    state["asked"] |= set(instance["requests"])
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def without_a_standby_of_this_point_it_is_cold_and_says_so():
    disks[0].scatter(4)
    write_boot_sector()
    back_up()
    told = reclo.run(*RECOVER, "--via", "standby", expect=3).stderr
    check("standby refresh" in told, told)
    instance = recover()
    check(instance["via"] == "cold" and any("no standby" in text for text in instance["warnings"]), f"{instance}")
    check_content(instance)
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def killed_at_every_step_of_the_cold_path_there_is_one_instance():
    names = [name for name in kill_points("failover_image.cc") if not name.endswith("removed")] + [
        "standby.block_put", "standby.before_complete", "standby.completed"]
    check(len(names) >= 7, f"only {names}")
    for name in names:
        killed = reclo.start(*RECOVER, env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(120), 137, f"exit code at {name}")
        instance = recover()
        check_one(instance)
        check_content(instance)
        stop(instance)
        check_nothing_but_the_standby()


@story.step
def a_drill_is_shut_in_and_ends():
    instance = recover("--drill", "--ttl", "2s", "--operator-cidr", "127.0.0.1/32")
    check_one(instance)
    group, = account.groups()
    check_equal(group["egress"], [], "whom the drill reaches")
    check_equal([rule["cidr"] for rule in group["ingress"]], ["127.0.0.1/32"], "who reaches the drill")
    marker = account.user_data(instance["instance"])
    check('\\"drill\\": true' in marker, marker)
    time.sleep(2.1)
    listed = reclo.run("instances", "--json")
    check("past its time" in listed.stderr and json.loads(listed.stdout)[0]["overdue"], listed.stderr)
    reclo.run("instances", "--reap")
    check_nothing_but_the_standby()
    check_equal(reclo.json("instances"), [], "instances")


@story.step
def a_drill_beside_the_real_one_is_another_instance():
    real, drill = recover(), recover("--drill")
    check(real["id"] != drill["id"] and len(account.instances()) == 2, "they are the same")
    check(drill["expires_at"] and not drill["overdue"], "a drill without end")
    again = recover("--name", "second")
    check(any("another failover" in text for text in again["warnings"]), f"{again['warnings']}")
    for instance in (real, drill, again):
        stop(instance)
    check_nothing_but_the_standby()


@story.step
def a_drill_in_a_group_that_lets_out_is_refused():
    group = account.default_group()
    told = reclo.run(*RECOVER, "--drill", "--security-group", group, expect=2).stderr
    check("lets its members out" in told, told)
    check_equal(reclo.json("instances"), [], "records of what was refused")
    instance = recover("--security-group", group)
    check_equal(account.groups(), [], "groups that were made")
    check_equal(account.instances()[0]["groups"], [group], "the instance's groups")
    stop(instance)


@story.step
def without_room_other_types_and_zones_are_tried():
    rig.faults({"match": "RunInstances", "mode": "capacity", "times": 4})
    instance = recover("--instance-type", "m6i.large,t3.large")
    rig.faults()
    check_one(instance)
    log = [line for line in rig.lab("GET", "/lab/stats")["log"] if "RunInstances" in line]
    check(len(log) >= 5, f"asked {len(log)} times")
    check_equal(instance["instance_type"], "m6i.large", "type: the third zone's first")
    check(instance["zone"].endswith("c"), f"zone {instance['zone']}")
    stop(instance)


@story.step
def without_any_room_it_says_what_was_refused_and_goes_on_later():
    rig.faults({"match": "RunInstances", "mode": "capacity", "times": 1000})
    told = reclo.run(*RECOVER, "--instance-type", "m6i.large", expect=1).stderr
    check("InsufficientInstanceCapacity" in told and "the same command goes on" in told, told)
    rig.faults({"match": "RunInstances", "mode": "quota", "times": 1000})
    told = reclo.run(*RECOVER, "--instance-type", "t3.large", expect=1).stderr
    check("VcpuLimitExceeded" in told and "quota" in told, told)
    rig.faults()
    instance = recover("--instance-type", "t3.medium")
    check_one(instance)
    check_equal(instance["instance_type"], "t3.medium", "type")
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def a_lost_answer_starts_nothing_twice():
    rig.faults({"match": "RunInstances", "mode": "reset-after", "times": 2},
               {"match": "RegisterImage", "mode": "reset-after", "times": 1},
               {"match": "CreateSecurityGroup", "mode": "reset-after", "times": 1},
               {"match": "POST /snapshots", "mode": "500-after", "times": 1})
    instance = recover()
    rig.faults()
    check_one(instance)
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def cut_off_at_each_step_the_same_command_goes_on():
    for match in ("DescribeImages", "DescribeInstanceTypes", "DescribeSubnets", "POST /snapshots ", "PUT /snapshots",
                  "POST /snapshots/completion", "DescribeSnapshots", "RegisterImage", "CreateSecurityGroup",
                  "AuthorizeSecurityGroupIngress", "RunInstances", "DescribeInstances"):
        rig.faults({"match": match.strip() + ("$" if match.endswith(" ") else ""), "mode": "reset", "times": 1000})
        told = reclo.run(*RECOVER, "--retry-for", "1", expect="error").stderr
        check("gave up" in told, f"{match}: {told}")
        rig.faults()
    instance = recover()
    check_one(instance)
    check_content(instance)
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def credentials_that_expire_in_the_middle_cost_a_rerun():
    rig.faults({"match": "PUT /snapshots", "mode": "expired", "times": 1000, "after": 5})
    told = reclo.run(*RECOVER, expect=4).stderr
    check("expired" in told, told)
    rig.faults()
    check_one(instance := recover())
    check_content(instance)
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def denied_actions_are_named_with_what_is_missing():
    for match, action in (("DescribeImages", "ec2:DescribeImages"), ("PUT /snapshots", "ebs:PutSnapshotBlock"),
                          ("CreateSecurityGroup", "ec2:CreateSecurityGroup"), ("RunInstances", "ec2:RunInstances")):
        rig.faults({"match": match, "mode": "denied", "times": 1000})
        told = reclo.run(*RECOVER, expect=4).stderr
        check(action in told and '"Effect": "Allow"' in told, f"{action} is not named: {told[-400:]}")
        rig.faults()
    stop(reclo.json("instances")[0])
    check_nothing_but_the_standby()


@story.step
def a_snapshot_that_ends_in_an_error_is_put_again():
    killed = reclo.start(*RECOVER, env_extra={"RECLO_KILL_POINT": "standby.block_put"})
    check_equal(killed.wait(120), 137, "exit code")
    snapshot, = set(rig.inventory()["snapshots"]) - {disk["snapshot"] for disk in state["standby"]["disks"]}
    rig.lab("POST", f"/lab/fail-snapshot/{snapshot}")
    instance = recover()
    check(any("put again" in text for text in instance["warnings"]), f"not said: {instance['warnings']}")
    check_content(instance)
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def what_cannot_work_is_refused_before_anything_is_made():
    plain = StampedDisk(story.folder / "plain.img", 8, seed=9)
    plain.fill(1, 100)
    reclo.backup("plain", plain.path)
    cases = [(("latest:plain",), 1, "boot loader"),
             (("latest:files", "--subnet", "subnet-0123456789abcdef0"), 3, "no subnet"),
             (("latest:files", "--subnet", "vpc-1"), 2, "subnet-"),
             (("latest:files", "--security-group", "sg-0123456789abcdef0"), 3, "no security group"),
             (("latest:files", "--instance-type", "m99.huge"), 2, "m99.huge"),
             (("latest:files", "--instance-type", "m7g.large"), 2, "x86_64"),
             (("latest:files", "--private-ip", "10.99.0.1"), 2, "none of the subnets"),
             (("latest:files", "--operator-cidr", "everybody"), 2, "IPv4"),
             (("latest:files", "--ttl", "soon"), 2, "duration"),
             (("latest:files", "--wait-for", "icmp:1"), 2, "tcp:PORT"),
             (("latest:files", "--region", "no-such-region-1"), 2, "region"),
             (("latest:files", "--via", "import"), 2, "--import-bucket")]
    for arguments, code, words in cases:
        told = reclo.run("recover", arguments[0], "--no-prepare", "--on", "ec2", *arguments[1:], expect=code).stderr
        check(words in told, f"{arguments}: {told}")
    check_nothing_but_the_standby()
    check_equal(reclo.json("instances"), [], "instances")


@story.step
def a_missing_key_pair_is_said_and_the_command_goes_on_without():
    told = reclo.run(*RECOVER, "--key-name", "lost", expect="error").stderr
    check("InvalidKeyPair" in told, told)
    check_one(instance := recover())
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def an_address_of_its_own_is_taken():
    subnet = account.subnets()[1]
    address = subnet["cidr"].rsplit(".", 1)[0] + ".77"
    instance = recover("--private-ip", address)
    check_equal((instance["private_ip"], instance["zone"]), (address, subnet["zone"]), "address, zone")
    stop(instance)


@story.step
def an_instance_that_somebody_terminated_is_replaced_and_said():
    instance = recover()
    account.terminate(instance["instance"])
    check_equal(reclo.json("instances")[0]["ec2_state"], "terminated", "listed as")
    again = recover()
    check(again["instance"] != instance["instance"] and again["id"] == instance["id"], "not replaced")
    check(any("terminated by somebody" in text for text in again["warnings"]), f"{again['warnings']}")
    check_one(again)
    stop(again)
    check_nothing_but_the_standby()


@story.step
def the_first_answer_is_waited_for():
    told = reclo.run(*RECOVER, "--wait-for", "tcp:127.0.0.1:1", "--wait-timeout", "2",
                     expect=6).stderr
    check("did not answer" in told and "runs on" in told, told)
    instance, = reclo.json("instances")
    check_equal((instance["ec2_state"], instance["rto_ms"]), ("running", None), "state, RTO")
    port = int(rig.endpoint.rsplit(":", 1)[1])
    stop(instance)
    answered = recover("--wait-for", f"http://127.0.0.1:{port}/lab/stats")
    check(answered["answered"] and answered["state"] == "answering", f"{answered}")
    check_equal([step["name"] for step in answered["steps"]][-1], "answer", "the last step")
    stop(answered)


@story.step
def an_import_goes_through_a_bucket_and_leaves_nothing_in_it():
    rig.lab("POST", "/lab/imports", {"secs": 0.5})
    told = reclo.run(*IMPORT, expect="error").stderr
    check("vmimport" in told, told)
    rig.lab("POST", "/lab/role/vmimport")
    instance = reclo.json(*IMPORT)
    check_one(instance)
    check_equal(instance["via"], "import", "how")
    check_content(instance)
    check_equal(account.objects("imports"), [], "objects in the bucket")
    state["asked"] |= set(instance["requests"])
    stop(instance)
    check_nothing_but_the_standby()


@story.step
def killed_at_every_step_of_an_import_there_is_one_instance():
    disks[0].fill(20, 10_000)  # enough for an upload in parts
    write_boot_sector()
    back_up()
    names = kill_points("import_path.cc")
    check(len(names) >= 6, f"only {names}")
    for name in names:
        killed = reclo.start(*IMPORT, env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(180), 137, f"exit code at {name}")
        if name in ("failover.upload_begun", "failover.uploaded", "failover.import_asked"):
            stop(reclo.json("instances")[0])  # also what is half done can be removed
        else:
            instance = reclo.json(*IMPORT)
            check_one(instance)
            check_content(instance)
            stop(instance)
        check_equal(account.objects("imports"), [], f"objects in the bucket after {name}")
        check_nothing_but_the_standby()


@story.step
def the_quota_is_looked_at_before_the_disaster():
    checked = reclo.json("standby", "status", "--server", "files", "--check")["check"]
    check_equal((checked["image_available"], checked["warnings"]), (True, []), "what the check found")
    rig.lab("POST", "/lab/quota", {"L-1216C47A": 3})
    instance = recover("--via", "cold")
    told = reclo.run("standby", "status", "--server", "files", "--check").stderr
    check("quota of 3 vCPUs" in told and "2 are used" in told, told)
    rig.lab("POST", "/lab/quota", {"L-1216C47A": 32})
    rig.faults({"match": "GetServiceQuota", "mode": "denied", "times": 1})
    told = reclo.run("standby", "status", "--server", "files", "--check").stderr
    rig.faults()
    check("servicequotas:GetServiceQuota" in told, told)
    stop(instance)


@story.step
def the_policy_names_every_action():
    statements = json.loads(reclo.run("policy", "print", "--for", "ec2").stdout)["Statement"]
    allowed = {action for statement in statements for action in statement["Action"]}
    check(state["asked"] <= allowed, f"asked and not allowed: {sorted(state['asked'] - allowed)}")
    log = {f"ec2:{line.split()[2]}" for line in rig.lab("GET", "/lab/stats")["log"] if line.startswith("POST / ")}
    log -= {"ec2:?", "ec2:GetServiceQuota"}
    log -= {"ec2:DescribeInstanceAttribute"}  # the test's own question
    check(log <= allowed, f"asked and not allowed: {sorted(log - allowed)}")


story.run()
