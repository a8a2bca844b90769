#!/usr/bin/env python3
"""A recovered server stands alone after hydration; a disk without BIOS boot code starts by UEFI.

time-limit: 900
"""

import shutil

import lib
from lib import check, check_equal

story = lib.Story("hydrate")
reclo = story.reclo()
state = {}


@story.step
def a_disk_without_bios_code_is_backed_up():
    state["disk"] = story.make_server("tiny")
    with open(state["disk"], "r+b") as disk:
        disk.write(bytes(440))  # the MBR's boot code; the partition table stays
    reclo.init()
    reclo.backup("frontdesk", state["disk"])
    state["disk"].unlink()


@story.step
def it_starts_by_uefi():
    port = lib.free_port()
    state["office"] = lib.Office(port)
    state["instance"] = reclo.recover("latest:frontdesk", port, "256M", "--hydrate")
    check_equal(state["instance"]["firmware"], "uefi", "the firmware it was started with")
    state["office"].put("written while hydrating")


@story.step
def hydration_ends():
    def hydrated():
        entry = reclo.json("instances")[0]
        check(entry["hydration"]["state"] != "failed", f"hydration failed: {entry['problem']}")
        return entry["hydration"]["state"] == "done"

    lib.wait_until(hydrated, 180, "hydration")


@story.step
def the_server_needs_the_repository_no_more():
    lib.wait_until(lambda: not reclo.processes("nbdkit"), 30, "the end of the image server")
    shutil.rmtree(reclo.repo)
    state["office"].put("written without a repository")
    check_equal(state["office"].rows(), ["written while hydrating", "written without a repository"], "rows")
    reclo.run("stop", state["instance"]["id"])


@story.step
def it_comes_back_without_the_repository():
    reclo.run("resume", state["instance"]["id"], limit_s=lib.BOOT_LIMIT_S)
    state["office"].wait()
    check_equal(state["office"].rows(), ["written while hydrating", "written without a repository"], "rows")
    reclo.run("stop", state["instance"]["id"], "--force")


story.run()
