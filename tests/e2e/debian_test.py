#!/usr/bin/env python3
"""A real Debian server with systemd, nginx and PostgreSQL: backed up while it works, lost, recovered.

time-limit: 1500
"""

import lib
from lib import check_equal

story = lib.Story("debian")
reclo = story.reclo()
points = {}
state = {}

BEFORE = ["invoice 1001: 120.00", "invoice 1002: O'Neill; DROP TABLE rows"]
AFTER = ["invoice 1003: 75.50"]
MEMORY_MIB = 768


def back_up(name):
    state["guest"].freeze()
    try:
        points[name] = reclo.backup("office", state["disk"])
    finally:
        state["guest"].thaw()


def check_recovered(point, rows):
    """Fails over to a point and expects its rows, its patients, and a database that takes new rows."""
    port = lib.free_port()
    instance = reclo.recover(point, port, f"{MEMORY_MIB}M")
    office = lib.Office(port)
    check_equal(office.rows(), rows, "rows in the recovered database")
    check_equal(office.get("/cgi-bin/check", timeout_s=120), state["patients"], "patients and their checksum")
    office.put("written after the failover")
    check_equal(office.rows(), rows + ["written after the failover"], "rows after one more")
    reclo.run("stop", instance["id"], "--force")


@story.step
def server_boots_and_commits_rows():
    state["disk"] = story.make_server("debian")
    state["guest"] = story.guest(state["disk"], memory_mib=MEMORY_MIB)
    state["guest"].wait()
    for row in BEFORE:
        state["guest"].put(row)
    state["patients"] = state["guest"].get("/cgi-bin/check", timeout_s=120)
    check_equal(state["patients"].split("|")[0], "20000", "number of patients")


@story.step
def full_backup():
    reclo.init()
    back_up("first")


@story.step
def incremental_after_more_rows():
    for row in AFTER:
        state["guest"].put(row)
    back_up("second")
    state["guest"].destroy()


@story.step
def latest_point_recovers_with_all_rows():
    check_recovered("latest:office", BEFORE + AFTER)


@story.step
def older_point_recovers_with_the_older_rows():
    check_recovered(points["first"], BEFORE)


story.run()
