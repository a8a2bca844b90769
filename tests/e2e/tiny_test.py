#!/usr/bin/env python3
"""The whole story of a small server on a folder repository: back up, lose, recover, at each point.

quick-suite
time-limit: 900
"""

import os
import signal

import lib
from lib import check, check_equal

story = lib.Story("tiny")
reclo = story.reclo()
points = {}
state = {}

BEFORE = ["09:00 Mrs Alvarez", "09:30 Mr Brandt & <daughter>"]
AFTER = ["10:15 Ms Chandra", "11:00 Öztürk 50% off"]


def back_up(name):
    """A recovery point of the running server, frozen for the moment, as a snapshot would."""
    state["guest"].freeze()
    try:
        points[name] = reclo.backup("frontdesk", state["disk"])
    finally:
        state["guest"].thaw()


def recover(point, *extra):
    port = lib.free_port()
    instance = reclo.recover(point, port, "256M", *extra)
    return instance, lib.Office(port)


@story.step
def server_boots_and_takes_rows():
    state["disk"] = story.make_server("tiny")
    state["guest"] = story.guest(state["disk"])
    state["guest"].wait()
    for row in BEFORE:
        state["guest"].put(row)
    check_equal(state["guest"].rows(), BEFORE, "rows of the original")


@story.step
def full_backup():
    reclo.init()
    back_up("first")


@story.step
def incremental_after_more_rows_stores_little():
    for row in AFTER:
        state["guest"].put(row)
    back_up("second")
    shown = reclo.json("show", points["second"])
    check(shown["stored_bytes"] < 2 << 20, f"two rows cost {shown['stored_bytes']} stored bytes")


@story.step
def points_are_listed_in_order():
    listed = [point["id"] for point in reclo.json("points", "--server", "frontdesk")]
    check_equal(listed, [points["first"], points["second"]], "the server's points")


@story.step
def server_is_lost_and_recovered_from_latest():
    state["guest"].destroy()
    state["instance"], state["recovered"] = recover("latest:frontdesk")
    check_equal(state["recovered"].rows(), BEFORE + AFTER, "rows of the recovered server")
    page = state["recovered"].get("/")
    check("Hillside Family Practice" in page and "Ms Chandra" in page, "the page is not the office's")


@story.step
def rto_is_measured():
    check(0 < state["instance"]["rto_ms"] < lib.BOOT_LIMIT_S * 1000, "rto_ms is not a time of this run")
    listed = reclo.json("instances")
    check_equal([entry["id"] for entry in listed], [state["instance"]["id"]], "the instances")


@story.step
def guest_writes_survive_the_death_of_the_image_server():
    state["recovered"].put("12:00 after the failover")
    servers = reclo.processes("nbdkit")
    check(servers, "no nbdkit process serves the image")
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    state["recovered"].put("12:30 after the crash")
    check_equal(state["recovered"].rows()[-2:], ["12:00 after the failover", "12:30 after the crash"],
                "rows written around the crash")


@story.step
def stop_ends_every_process():
    reclo.run("stop", state["instance"]["id"])
    left = [pid for program in ("qemu-system", "nbdkit", "reclo") for pid in reclo.processes(program)]
    check_equal(left, [], "processes left behind")


@story.step
def resume_brings_back_what_the_guest_wrote():
    state["instance"] = reclo.json("resume", state["instance"]["id"], limit_s=lib.BOOT_LIMIT_S)
    state["recovered"].wait()
    check_equal(state["recovered"].rows()[-1], "12:30 after the crash", "the last row after a resume")
    reclo.run("stop", state["instance"]["id"], "--force", "--delete")
    check_equal(reclo.json("instances"), [], "instances after the deletion")


@story.step
def older_point_gives_the_older_rows():
    instance, office = recover(points["first"])
    check_equal(office.rows(), BEFORE, "rows of the older point")
    reclo.run("stop", instance["id"])


@story.step
def the_repository_is_untouched_by_what_recovered_servers_wrote():
    reclo.run("verify", "--read-data")
    instance, office = recover("latest:frontdesk")
    check_equal(office.rows(), BEFORE + AFTER, "rows of a second recovery from the same point")
    reclo.run("stop", instance["id"])


story.run()
