#!/usr/bin/env python3
"""S3 for real: the byte-level story on moto and on Ceph's gateway, and a server booted from Ceph.

time-limit: 1200
"""

import lib
import stores
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("s3")
state = {}


def byte_story(name, start):
    """init, full, incremental, restore of both, verify; every byte against the model."""
    server = start(story)
    reclo = story.reclo(repo=server.repo, options=server.options, env=server.env)
    disk = StampedDisk(story.folder / f"{name}.img", 96)
    disk.fill(0, 6000)
    reclo.init()
    first, first_model = reclo.backup("files", disk.path), disk.snapshot()
    disk.scatter(300)
    second, second_model = reclo.backup("files", disk.path), disk.snapshot()
    uploaded = reclo.json("show", second)["uploaded_bytes"]
    check(uploaded < 3 << 20, f"300 changed pages (1.2 MiB) cost {uploaded} uploaded bytes")
    for point, model in ((first, first_model), (second, second_model)):
        restored = story.folder / f"{name}-restored.img"
        reclo.run("restore", point, "--to", restored)
        check_equal(disk.first_difference(restored, model), None, f"restore of {point}")
        restored.unlink()
    reclo.run("verify", "--read-data")
    return server, reclo


@story.step
def bytes_on_moto():
    byte_story("moto", stores.start_moto)


@story.step
def bytes_on_ceph():
    state["ceph"], state["reclo"] = byte_story("ceph", stores.start_rgw)


@story.step
def a_server_backs_up_to_ceph():
    state["disk"] = story.make_server("tiny")
    guest = story.guest(state["disk"])
    guest.wait()
    guest.put("stored before the backup")
    guest.freeze()
    state["reclo"].backup("frontdesk", state["disk"])
    guest.destroy()


@story.step
def the_server_boots_from_ceph():
    port = lib.free_port()
    instance = state["reclo"].recover("latest:frontdesk", port)
    check_equal(lib.Office(port).rows(), ["stored before the backup"], "rows of the recovered server")
    state["reclo"].run("stop", instance["id"])


@story.step
def wrong_credentials_are_named():
    wrong = dict(state["ceph"].env, AWS_SECRET_ACCESS_KEY="not-the-secret-key")
    other = story.reclo(repo=state["ceph"].repo, options=state["ceph"].options, env=wrong)
    told = other.run("points", expect="error").stderr
    check("not-the-secret-key" not in told, "the secret is in the message")
    check(told.strip(), "no message")


@story.step
def a_missing_bucket_is_named():
    other = story.reclo(repo="s3://no-such-bucket/x", options=state["ceph"].options, env=state["ceph"].env)
    told = other.run("points", expect="error").stderr
    check("no-such-bucket" in told, f"the bucket is not named: {told}")


story.run()
