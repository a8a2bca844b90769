#!/usr/bin/env python3
"""The whole trip: a server bound to its hardware is kept as a standby, lost, runs in EC2, and comes home.

A Debian server with UEFI, LVM, SATA drivers only and a static address; its page and its database answer in the
cloud, take rows there, and again at home under the old address. EC2 is the stand-in that boots.

time-limit: 1800
"""

import os
import subprocess

import lib
from ec2_rig import Ec2Rig, InstanceOffice, cannot_boot
from home import HomeMachine
from lib import SERVERS, check, check_equal

BOOT_LIMIT_S = 700
PREPARE_LIMIT_S = 600
OLD_ADDRESS = "192.168.7.20"
CLOUD_ROWS = ["invoice 2001: written in the cloud", "invoice 2002: O'Neill; DROP TABLE rows"]

if why_not := cannot_boot():
    print(f"SKIP cloud_story: {why_not}")
    raise SystemExit(0)
story = lib.Story("cloud_story")
rig = Ec2Rig(story, boots=True)
reclo = story.reclo(env=rig.env)
disk, home_disk = story.folder / "office.img", story.folder / "home.img"
state = {}


def office():
    return InstanceOffice(state["address"])


@story.step
def the_server_is_backed_up_and_kept_as_a_standby():
    made = subprocess.run([SERVERS / "make-debian.sh", disk], env={**os.environ, "LAYOUT": "lvm"},
                          capture_output=True, text=True, check=False)
    check(made.returncode == 0, f"make-debian.sh failed: {made.stderr.strip()[-300:]}")
    reclo.init()
    state["point"] = reclo.backup("office", disk)
    report = reclo.json("standby", "refresh", "--server", "office", limit_s=PREPARE_LIMIT_S)
    check(report["overlay"] and report["boot_mode"] == "uefi", f"the standby is not prepared for UEFI: {report}")
    state["standby"] = report


@story.step
def it_is_lost_and_runs_in_ec2():
    disk.unlink()
    told = reclo.json("recover", "latest:office", "--on", "ec2", "--instance-type", "t3.small", "--operator-cidr",
                      "127.0.0.0/8", "--wait-for", "http:80/cgi-bin/get", "--wait-timeout", str(BOOT_LIMIT_S),
                      limit_s=BOOT_LIMIT_S + 120)
    check_equal((told["via"], told["image"]), ("standby", state["standby"]["image"]), "what was started")
    check(told["rto_ms"] > 0 and told["steps"], f"nothing was measured: {told}")
    state["instance"], state["address"] = told["id"], told["public_ip"]
    check_equal(office().get("/cgi-bin/check", timeout_s=120).split("|")[0], "20000", "number of patients")


@story.step
def its_database_takes_rows_there():
    for row in CLOUD_ROWS:
        office().put(row)
    check_equal(office().rows(), CLOUD_ROWS, "rows in the cloud")
    state["patients"] = office().get("/cgi-bin/check", timeout_s=120)


@story.step
def it_comes_home_in_rounds():
    """The repaired machine's disk still holds what the server was before it was lost."""
    reclo.run("restore", state["point"], "--to", home_disk)
    first = reclo.json("failback", "seed", "--instance", state["instance"], "--to", home_disk, limit_s=900)
    check_equal(first["base"]["fetched_bytes"], 0, "fetched of what the disk held")
    moved = sum(each["blocks"] for each in first["rounds"])
    check(0 < moved < 2000, f"{moved} blocks came home in the first round")
    office().put("invoice 2003: while it was being brought home")
    done = reclo.json("failback", "cutover", "--yes", limit_s=900)
    check(any("/etc/network/interfaces" in note for note in done["notes"]), f"nothing was taken back: {done['notes']}")
    check(not any("left as it is" in note for note in done["notes"]), f"left: {done['notes']}")
    state["rows"] = CLOUD_ROWS + ["invoice 2003: while it was being brought home"]


@story.step
def it_boots_at_home_with_its_old_address_and_the_new_rows():
    home = HomeMachine(story, home_disk, OLD_ADDRESS)
    home.wait("/cgi-bin/get", limit_s=BOOT_LIMIT_S)
    check_equal(home.rows(), state["rows"], "rows at home")
    check_equal(home.get("/cgi-bin/check", timeout_s=120), state["patients"], "patients and their checksum")
    home.kill()


@story.step
def nothing_stays_behind_in_the_cloud():
    reclo.run("stop", state["instance"], "--force", "--delete")
    reclo.run("standby", "drop", "--server", "office")
    check_equal(rig.inventory(), {"images": [], "snapshots": []}, "images and snapshots")
    check_equal([i["InstanceId"] for i in rig.instances("pending", "running", "stopping", "stopped")], [], "instances")


story.run()
