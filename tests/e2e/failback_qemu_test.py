#!/usr/bin/env python3
"""A server that was recovered on QEMU comes home with the rows that it took there, and boots from its disk.

time-limit: 1200
"""

import lib
from lib import check, check_equal

story = lib.Story("failback-qemu")
reclo = story.reclo()
home = story.folder / "home.img"
state = {}

BEFORE = ["09:00 Mrs Alvarez"]
AWAY = ["10:15 Ms Chandra", "11:00 Öztürk"]


@story.step
def the_server_is_lost_and_runs_on_qemu():
    state["disk"] = story.make_server("tiny")
    guest = story.guest(state["disk"])
    guest.wait()
    for row in BEFORE:
        guest.put(row)
    reclo.init()
    guest.freeze()
    reclo.backup("frontdesk", state["disk"])
    guest.destroy()
    port = lib.free_port()
    state["instance"] = reclo.recover("latest:frontdesk", port)["id"]
    state["office"] = lib.Office(port)
    for row in AWAY:
        state["office"].put(row)
    check_equal(state["office"].rows(), BEFORE + AWAY, "rows of the recovered server")


@story.step
def while_it_runs_the_recovery_point_comes_home():
    plan = reclo.json("failback", "plan", "--instance", state["instance"], "--to", home)
    check(plan["overlay_bytes"] > 0 and plan["base_bytes_max"] > 0, f"the plan: {plan}")
    report = reclo.json("failback", "seed", "--instance", state["instance"], "--to", home)
    check(report["base"]["written_bytes"] > 0, f"nothing came home: {report['base']}")
    check_equal(state["office"].rows(), BEFORE + AWAY, "rows while seeding")
    again = reclo.json("failback", "seed", "--instance", state["instance"], "--to", home)
    check_equal(again["base"]["written_bytes"], 0, "written by a second seed")


@story.step
def the_cutover_moves_only_what_the_instance_wrote_killed_or_not():
    for name in ("failback.stopped", "failback.cluster_written:3", "failback.verified"):
        killed = reclo.start("failback", "cutover", "--yes", env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(300), 137, f"exit code at {name}")
    check_equal(reclo.json("instances")[0]["running"], False, "whether the instance runs")
    status = reclo.json("failback", "status")[0]
    moved = sum(one["blocks"] for one in status["rounds"])
    size = home.stat().st_size
    check(0 < moved * 65536 < size / 2, f"{moved} clusters of a disk of {size} bytes moved")
    report = reclo.json("failback", "cutover", "--yes", status["id"])
    check_equal(report["state"], "done", "the state")


@story.step
def it_boots_at_home_with_the_new_rows():
    guest = story.guest(home)
    guest.wait()
    check_equal(guest.rows(), BEFORE + AWAY, "rows at home")
    guest.put("12:00 home again")
    guest.kill()


@story.step
def a_hydrated_instance_needs_no_repository_to_come_home():
    port = lib.free_port()
    instance = reclo.recover("latest:frontdesk", port, "256M", "--hydrate")["id"]
    lib.Office(port).put("13:00 hydrated")
    lib.wait_until(lambda: [one for one in reclo.json("instances") if one["id"] == instance
                            and one["hydration"]["state"] == "done"], lib.BOOT_LIMIT_S, "hydration")
    second = story.folder / "second.img"
    reclo.run("failback", "seed", "--instance", instance, "--to", second)
    report = reclo.json("failback", "cutover", "--yes", limit_s=lib.BOOT_LIMIT_S)
    check_equal(report["base"]["fetched_bytes"], 0, "fetched from the repository")
    guest = story.guest(second)
    guest.wait()
    check_equal(guest.rows(), BEFORE + ["13:00 hydrated"], "rows of the second server at home")


story.run()
