#!/usr/bin/env python3
"""A recovered copy has its original's disk, and its backup agent: it must not write to the original's chain.

time-limit: 300
quick-suite
"""

import json
import shutil

import lib
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("clone")
original = story.reclo()
disk = StampedDisk(story.folder / "disk.img", 16, seed=5)
places = {}


def machine(name, uuid, marker=None):
    """A machine's face: what its hardware says, and whether failover left a marker."""
    root = story.folder / name
    (root / "sys/class/dmi/id").mkdir(parents=True)
    (root / "etc/reclo").mkdir(parents=True)
    (root / "sys/class/dmi/id/product_uuid").write_text(f"{uuid}\n")
    (root / "etc/machine-id").write_text("5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e\n")
    if marker is not None:
        (root / "etc/reclo/recovered.json").write_text(marker)
    return {"RECLO_IDENTITY_ROOT": str(root)}


def marker_of(point):
    return json.dumps({"version": 1, "from_point": point, "server": "files", "target": "ec2", "drill": False,
                       "made": "2026-11-24T10:00:00Z"})


def copy_of_the_original(env):
    """The recovered disk holds the state folder, too."""
    clone = story.reclo(repo=original.repo, env=env)
    shutil.copytree(original.state, clone.state)
    return clone


def chain(server):
    return [point["id"] for point in original.json("points", "--server", server)]


def repository_files():
    return sorted(str(path) for path in story.folder.joinpath(original.repo).rglob("*") if path.is_file())


@story.step
def the_original_is_enrolled_on_its_hardware():
    original.env.update(machine("original", "uuid-1"))
    original.init()
    disk.fill(1, 500)
    places["point"] = original.backup("files", disk.path)
    identity = next(original.state.rglob("identity.json")).read_text()
    check("uuid-1" not in identity and "5ca1ab1e" not in identity, f"the numbers themselves are kept: {identity}")


@story.step
def a_copy_with_a_marker_is_refused_in_words_and_writes_nothing():
    clone = copy_of_the_original(machine("copy", "uuid-1", marker_of(places["point"])))
    places["clone"] = clone
    before = repository_files()
    for extra in ((), ("--same-server",), ("--full",)):
        told = clone.run("backup", "--server", "files", *extra, disk.path, expect=7).stderr
        check(places["point"][:8] in told and "--branch" in told, f"not said: {told}")
    clone.run("backup", "--server", "files", "--branch", "files", disk.path, expect=7)
    check_equal(repository_files(), before, "objects in the repository")


@story.step
def it_branches_into_a_chain_of_its_own():
    clone = places["clone"]
    disk.scatter(20)
    branched = clone.json("backup", "--server", "files", "--branch", "auto", disk.path)
    name = f"files (recovered from {places['point'][:8]})"
    check_equal(branched["server"], name, "the branch's name")
    check_equal(branched["sequence"], 1, "the branch's first number")
    again = clone.json("backup", "--server", name, disk.path)  # the next ones go on without a word
    check_equal((again["server"], again["sequence"], again["kind"]), (name, 2, "incremental"), "the second backup")
    check_equal(chain("files"), [places["point"]], "the original's chain")
    records = [json.loads(__import__("base64").b64decode(json.loads(path.read_text())["payload"]))
               for path in story.folder.joinpath(original.repo).rglob("machine.json")]
    check_equal([record.get("recovered_from") for record in sorted(records, key=lambda one: one["created"])],
                [None, {"server": "files", "point": places["point"]}], "what the enrolments say")


@story.step
def the_original_goes_on_untouched():
    second = original.json("backup", "--server", "files", disk.path)
    check_equal((second["sequence"], second["kind"]), (2, "incremental"), "the original's second backup")
    check_equal(len(chain("files")), 2, "points of the original")


@story.step
def without_a_marker_other_hardware_is_noticed():
    clone = copy_of_the_original(machine("elsewhere", "uuid-2"))
    told = clone.run("backup", "--server", "files", disk.path, expect=7).stderr
    check("SMBIOS" in told and "--same-server" in told, f"not said: {told}")
    check_equal(len(chain("files")), 2, "points of the original")
    named = clone.json("backup", "--server", "files", "--branch", "files at the spare", disk.path)
    check_equal(named["server"], "files at the spare", "the branch's name")


@story.step
def a_replaced_main_board_is_acknowledged_once():
    original.env.update(machine("new-board", "uuid-3"))
    original.run("backup", "--server", "files", disk.path, expect=7)
    original.run("backup", "--server", "files", "--same-server", disk.path)
    original.run("backup", "--server", "files", disk.path)
    check_equal(len(chain("files")), 4, "points of the original")


@story.step
def a_marker_that_is_damaged_still_counts():
    path = story.folder / "broken.json"
    path.write_text("{")
    clone = copy_of_the_original({"RECLO_CLONE_MARKER": str(path)})
    told = clone.run("backup", "--server", "files", disk.path, expect=7).stderr
    check("cannot be read" in told and "--branch" in told, f"not said: {told}")
    check_equal(clone.json("backup", "--server", "files", "--branch", "auto", disk.path)["server"], "files (branch)",
                "the branch's name")


@story.step
def a_branch_interrupted_while_it_enrols_stays_a_branch():
    for name in ("state.identity_written", "state.keys_written"):
        clone = copy_of_the_original(machine(f"killed-{name}", "uuid-1", marker_of(places["point"])))
        branch = f"branch {name}"
        killed = clone.start("backup", "--server", "files", "--branch", branch, disk.path,
                             env_extra={"RECLO_KILL_POINT": name})
        check_equal(killed.wait(60), 137, f"exit code at {name}")
        clone.run("backup", "--server", branch, disk.path)
        clone.run("backup", "--server", "files", disk.path, expect=7)


story.run()
