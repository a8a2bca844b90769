#!/usr/bin/env python3
"""What a standby and a failover cost and take, from the maps alone; an old price list is said.

time-limit: 120
quick-suite
"""

import json

import lib
from disks import StampedDisk
from lib import ROOT, check, check_equal

story = lib.Story("estimate")
reclo = story.reclo()
disk = StampedDisk(story.folder / "disk.img", 64, seed=3)
PRICES = json.loads((ROOT / "src/recovery/ec2/prices.json").read_text())


def estimate(*extra, **options):
    return reclo.json("estimate", "--server", "files", "--region", "us-east-1", *extra, **options)


@story.step
def blocks_with_data_are_counted_and_one_point_tells_no_change():
    disk.fill(0, 1024)  # 4 MiB: blocks 0 … 7
    disk.write([128 * 20])  # one page of block 20
    reclo.init()
    reclo.backup("files", disk.path)
    told = estimate()
    check_equal((told["data_blocks"], told["volume_gib"]), (9, 1), "blocks with data, GiB of the volume")
    check_equal(told["measured_intervals"], 0, "intervals measured")
    check_equal(told["cold_seconds"], 0.009, "seconds at the quota")


@story.step
def a_second_point_tells_what_a_refresh_puts():
    disk.write([0, 1, 128 * 30])  # blocks 0 and 30
    reclo.backup("files", disk.path)
    told = estimate("--refreshes-per-day", "24")
    check_equal((told["changed_blocks"], told["data_blocks"]), (2, 10), "changed and data blocks")
    prices = PRICES["regions"]["us-east-1"]
    hour = prices["instance_hour"]["m6i.large"] + prices["volume_gib_month"] / 730 + prices["public_ipv4_hour"]
    check(abs(told["failover"]["hour"] - hour) < 1e-9, f"an hour of failover: {told['failover']}")
    month = 10 / 2048 * prices["snapshot_gib_month"]
    check(abs(told["standby"]["storage_month"] - month) < 1e-9, f"a month of storage: {told['standby']}")


@story.step
def it_reads_maps_only_and_needs_no_passphrase_on_the_server_itself():
    told = story.reclo(repo=reclo.repo, env={"RECLO_PASSPHRASE_FILE": "/nonexistent"})
    told.env["RECLO_STATE_DIR"] = str(reclo.state)
    check("GiB" in told.run("estimate", "latest:files", "--region", "us-east-1").stdout, "no text")


@story.step
def a_list_of_ones_own_is_used_and_an_old_one_is_said():
    old = {**PRICES, "as_of": "2021-02-03"}
    old["regions"] = {"us-east-1": {**PRICES["regions"]["us-east-1"], "snapshot_gib_month": 1024}}
    path = story.folder / "prices.json"
    path.write_text(json.dumps(old))
    run = reclo.run("estimate", "--server", "files", "--region", "us-east-1", "--prices", path, "--json")
    check_equal(json.loads(run.stdout)["standby"]["storage_month"], 5.0, "a month of storage at 1024 a GiB")
    check("2021-02-03" in run.stderr, f"the list's age is not said: {run.stderr}")
    check("of 20" not in estimate_errors(), "the built-in list is called old")


def estimate_errors():
    return reclo.run("estimate", "--server", "files", "--region", "us-east-1").stderr


@story.step
def what_is_not_in_the_list_is_named_with_what_is():
    check("us-east-1" in reclo.run("estimate", "--server", "files", "--region", "nowhere", expect=3).stderr, "regions")
    check("m6i.large" in reclo.run("estimate", "--server", "files", "--region", "us-east-1",
                                   "--instance-type", "z9.huge", expect=3).stderr, "types")
    bad = story.folder / "bad.json"
    bad.write_text("{")
    reclo.run("estimate", "--server", "files", "--prices", bad, expect=5)
    reclo.run("estimate", expect=2)


story.run()
