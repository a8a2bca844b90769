#!/usr/bin/env python3
"""A server fails over to EC2 and answers: booted for real by the stand-in, from its standby and cold; a drill that
reaches nobody; stopped and resumed with what it wrote.

time-limit: 1500
"""

import json

import lib
from ec2_account import Account
from ec2_rig import Ec2Rig, InstanceOffice, cannot_boot
from lib import check, check_equal

if why_not := cannot_boot():
    print(f"SKIP failoverboot: {why_not}")
    raise SystemExit(0)
story = lib.Story("failoverboot")
rig = Ec2Rig(story, boots=True)
account = Account(rig)
reclo = story.reclo(env=rig.env)
BOOT = ("--operator-cidr", "127.0.0.1/32", "--wait-for", "http:80/cgi-bin/get", "--wait-timeout", lib.BOOT_LIMIT_S)
state = {}


def recover(*extra):
    return reclo.json("recover", "latest:frontdesk", "--no-prepare", "--on", "ec2", *BOOT, *extra,
                      limit_s=lib.BOOT_LIMIT_S + 60)


def stop(instance):
    reclo.run("stop", instance["id"], "--delete", "--force")
    check_equal((account.instances(), account.groups()), ([], []), "instances and groups that are left")


@story.step
def a_server_writes_and_is_backed_up():
    disk = story.make_server("tiny")
    server = story.guest(disk)
    server.wait()
    server.put("row-from-home")
    server.freeze()
    state["point"] = reclo.init() and reclo.backup("frontdesk", disk)
    server.destroy()
    state["standby"] = reclo.json("standby", "refresh", "--no-prepare", "--server", "frontdesk")


@story.step
def its_standby_answers_with_its_rows():
    instance = recover()
    check(instance["answered"] and instance["via"] == "standby", f"{instance}")
    check_equal([step["name"] for step in instance["steps"]],
                ["checks", "image", "network", "instance", "answer"], "steps")
    state["office"] = InstanceOffice(instance["public_ip"])
    check("row-from-home" in state["office"].rows(), "the row from home is not there")
    print(f"  measured RTO {instance['rto_ms']} ms, RPO {instance['rpo_ms']} ms")
    for step in instance["steps"]:
        print(f"    {step['name']}: {step['duration_ms']} ms")
    state["instance"] = instance


@story.step
def stopped_and_resumed_it_has_what_it_wrote():
    state["office"].put("row-from-the-cloud")
    reclo.run("stop", state["instance"]["id"])
    check_equal(reclo.json("instances")[0]["ec2_state"], "stopped", "state after stop")
    resumed = reclo.json("resume", state["instance"]["id"], limit_s=lib.BOOT_LIMIT_S + 60)
    rows = InstanceOffice(resumed["public_ip"]).rows()
    check("row-from-the-cloud" in rows and "row-from-home" in rows, f"rows after resuming: {rows}")
    stop(resumed)


@story.step
def a_drill_answers_its_operator_and_reaches_nobody():
    instance = recover("--drill", "--via", "cold")
    check(instance["answered"] and instance["via"] == "cold", f"{instance}")
    check("row-from-home" in InstanceOffice(instance["public_ip"]).rows(), "the row from home is not there")
    group, = account.groups()
    check_equal(group["egress"], [], "whom the drill reaches")
    marker = account.user_data(instance["instance"]).split("\n", 1)[1]
    content = json.loads(json.loads(marker)["write_files"][0]["content"])
    check_equal((content["drill"], content["recovered_from"]), (True, state["point"]), "what the guest is told")
    stop(instance)


story.run()
