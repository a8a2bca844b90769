#!/usr/bin/env python3
"""The whole way: a server is lost, runs in EC2 (booted for real by the stand-in), takes rows there, comes home in
rounds while it runs, and boots from its old place with all rows.

time-limit: 1500
"""

import lib
from ec2_rig import Ec2Rig, InstanceOffice, cannot_boot
from lib import check, check_equal

if why_not := cannot_boot():
    print(f"SKIP failbackboot: {why_not}")
    raise SystemExit(0)
story = lib.Story("failbackboot")
rig = Ec2Rig(story, boots=True)
reclo = story.reclo(env=rig.env)
home = story.folder / "home.img"
state = {}


@story.step
def the_server_is_lost_and_runs_in_ec2():
    disk = story.make_server("tiny")
    server = story.guest(disk)
    server.wait()
    server.put("row-from-home")
    server.freeze()
    reclo.init()
    reclo.backup("frontdesk", disk)
    server.destroy()
    reclo.json("standby", "refresh", "--no-prepare", "--server", "frontdesk")
    instance = reclo.json("recover", "latest:frontdesk", "--on", "ec2", "--operator-cidr", "127.0.0.1/32", "--wait-for",
                          "http:80/cgi-bin/get", "--wait-timeout", lib.BOOT_LIMIT_S, limit_s=lib.BOOT_LIMIT_S + 60)
    state["instance"] = instance["id"]
    state["office"] = InstanceOffice(instance["public_ip"])
    state["office"].put("row-from-the-cloud")


@story.step
def it_comes_home_in_rounds_while_it_runs():
    first = reclo.json("failback", "seed", "--instance", state["instance"], "--to", home)
    size = home.stat().st_size
    moved = sum(one["bytes"] for one in first["rounds"])
    check(0 < moved < size / 4, f"{moved} bytes of a disk of {size} moved in the first round")
    state["office"].put("row-while-seeding")
    second = reclo.json("failback", "seed", "--instance", state["instance"], "--window", "10m")
    check(second["forecast"] is not None, f"no forecast: {second}")
    check("row-while-seeding" in state["office"].rows(), "the server does not run on")
    state["office"].put("row-before-the-cutover")


@story.step
def the_cutover_stops_it_there():
    report = reclo.json("failback", "cutover", "--yes", limit_s=lib.BOOT_LIMIT_S)
    check_equal(report["state"], "done", "the state")
    check(report["verified_blocks"] > 0, "nothing was verified")
    check(state["office"].try_get("/cgi-bin/get") is None, "it still answers in EC2")
    check_equal(reclo.json("instances")[0]["ec2_state"], "stopped", "the instance")


@story.step
def it_boots_at_home_with_the_rows_of_home_and_of_the_cloud():
    server = story.guest(home)
    server.wait()
    check_equal(server.rows(), ["row-from-home", "row-from-the-cloud", "row-while-seeding", "row-before-the-cutover"],
                "rows at home")


story.run()
