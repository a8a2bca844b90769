#!/usr/bin/env python3
"""The user data of a host: checked by shellcheck, then run for real, with the outside of the host played here.

What is played: apt-get (everything is installed), systemctl (starts the unit's ExecStart), aws (hands the
passphrase out). The files that the script writes go to a mount namespace of its own; the server boots from S3.

time-limit: 900
"""

import os
import pathlib
import re
import shutil
import subprocess

import lib
import stores
from lib import check, check_equal

story = lib.Story("host")
server = stores.start_moto(story)
reclo = story.reclo(repo=server.repo, options=server.options, env=server.env)
fakes = story.folder / "bin"
state = {}

SYSTEMCTL = """#!/bin/bash
echo "systemctl $*" >>"$LAB/calls"
[ "$1" != enable ] || exec "$(sed -n 's/^ExecStart=//p' /etc/systemd/system/reclo-host.service)"
"""
AWS = """#!/bin/bash
echo "aws $*" >>"$LAB/calls"
cat "$LAB/secret"
"""
APT = """#!/bin/bash
echo "apt-get $*" >>"$LAB/calls"
"""


def user_data(*extra, **options):
    return reclo.run("host", "user-data", "--point", "latest:frontdesk", *extra, **options)


def in_the_host(*command):
    """Runs as root of the host would: its /usr/local/lib, /etc/systemd/system and /var/lib are folders here."""
    mounts = "".join(f"mount --bind {story.folder}/{name} {place} && " for name, place in (
        ("lib", "/usr/local/lib"), ("units", "/etc/systemd/system"), ("var-lib", "/var/lib")))
    env = {**reclo.env, "PATH": f"{fakes}:{os.environ['PATH']}", "LAB": str(story.folder)}
    for name in ("RECLO_PASSPHRASE_FILE", "RECLO_REPO", "RECLO_STATE_DIR", "RECLO_S3_ENDPOINT"):
        env.pop(name)
    return subprocess.run(["unshare", "--mount", "bash", "-c", mounts + 'exec "$@"', "host", *map(str, command)],
                          env=env, capture_output=True, text=True, timeout=lib.BOOT_LIMIT_S, check=False)


def calls():
    return (story.folder / "calls").read_text().splitlines()


@story.step
def it_is_a_script_that_shellcheck_has_nothing_to_say_about():
    text = user_data("--passphrase-secret", "it's a secret", "--forward", "0.0.0.0:80:80",
                     "--package-url", "https://example.org/reclo.deb", "--package-sha256", "0" * 64).stdout
    script = story.folder / "any.sh"
    inner = story.folder / "inner.sh"
    script.write_text(text)
    inner.write_text(re.search(r"<<'RECLO_HOST_START'\n(.*?)RECLO_HOST_START\n", text, re.DOTALL)[1])
    for path in (script, inner):
        told = subprocess.run(["shellcheck", path], capture_output=True, text=True, check=False)
        check_equal(told.stdout + told.stderr, "", f"what shellcheck says of {path.name}")
    check("correct horse" not in text, "the passphrase is in the user data")
    check(len(text) < 16384, "EC2 takes 16 KiB")


@story.step
def what_cannot_be_right_is_refused():
    check("passphrase" in user_data(expect=2).stderr, "a missing place for the passphrase is not named")
    told = user_data("--passphrase-parameter", "/reclo", "--repo", "/srv/backup", expect=2).stderr
    check("s3://" in told, f"not said: {told}")


@story.step
def the_host_runs_it_and_the_server_answers():
    disk = story.make_server("tiny")
    reclo.init()
    reclo.backup("frontdesk", disk)
    disk.unlink()
    state["port"] = lib.free_port()
    text = user_data("--passphrase-parameter", "/reclo/office", "--memory", "256M", "--cpus", "1",
                     "--forward", f"{state['port']}:80", "--wait-for", f"http:{state['port']}/cgi-bin/get").stdout
    for name in ("bin", "lib", "units", "var-lib"):
        (story.folder / name).mkdir()
    for name, body in (("systemctl", SYSTEMCTL), ("aws", AWS), ("apt-get", APT)):
        (fakes / name).write_text(body)
        (fakes / name).chmod(0o755)
    (fakes / "reclo").symlink_to(lib.RECLO)
    shutil.copy(reclo.env["RECLO_PASSPHRASE_FILE"], story.folder / "secret")
    script = story.folder / "user-data.sh"
    script.write_text(text)
    reclo.state = story.folder / "var-lib/reclo"  # what is cleaned up at the end
    reclo.env["RECLO_STATE_DIR"] = "/var/lib/reclo"
    story.later(lambda: in_the_host("reclo", "stop", "recovered", "--force", "--delete"))
    ran = in_the_host("bash", script)
    print(ran.stdout[-500:], ran.stderr[-2000:])
    check_equal(ran.returncode, 0, "the script's exit code")
    state["office"] = lib.Office(state["port"])
    state["office"].put("09:00 from the host")
    check_equal(state["office"].rows(), ["09:00 from the host"], "rows")
    check(any("ssm get-parameter --name /reclo/office --with-decryption" in line for line in calls()), f"{calls()}")
    check(not list(pathlib.Path("/dev/shm").glob("reclo-passphrase.*")), "the passphrase was left in memory")


@story.step
def after_a_restart_of_the_host_the_same_server_is_there():
    stopped = in_the_host("reclo", "stop", "recovered", "--force")
    check_equal(stopped.returncode, 0, f"stopping: {stopped.stderr[-300:]}")
    again = in_the_host("/usr/local/lib/reclo/host-start")
    check_equal(again.returncode, 0, f"starting again: {again.stderr[-500:]}")
    state["office"].wait()
    check_equal(state["office"].rows(), ["09:00 from the host"], "rows after the restart")


if os.geteuid() == 0:
    story.run()
print("SKIP host: mounting over the host's folders needs root")
shutil.rmtree(story.folder, ignore_errors=True)
