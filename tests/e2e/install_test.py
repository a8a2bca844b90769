#!/usr/bin/env python3
"""What `cmake --install` puts under a prefix works there: the command, its NBD plugin, man page, completion.

quick-suite
time-limit: 180
"""

import json
import pathlib
import signal
import subprocess

import lib
from disks import StampedDisk
from lib import check, check_equal

story = lib.Story("install")
prefix = story.folder / "prefix"
build = pathlib.Path(lib.RECLO).parents[1]
# Words as bash asks for them: the line so far, its last word to be completed.
COMPLETE = """
source "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
_reclo
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completions(*words):
    script = prefix / "share/bash-completion/completions/reclo"
    result = subprocess.run(["bash", "-c", COMPLETE, "bash", script, *words], capture_output=True, text=True,
                            timeout=30, check=False)
    check_equal(result.returncode, 0, f"bash completing {words}, {result.stderr}")
    return result.stdout.split()


@story.step
def it_installs_under_a_prefix():
    result = subprocess.run(["cmake", "--install", build, "--prefix", prefix], capture_output=True, text=True,
                            timeout=60, check=False)
    check_equal(result.returncode, 0, f"cmake --install, {result.stderr}")
    for name in ("bin/reclo", "share/man/man1/reclo.1", "share/bash-completion/completions/reclo"):
        check((prefix / name).stat().st_size > 0, f"{name} is empty")
    lib.RECLO = str(prefix / "bin/reclo")  # from here on nothing of the build folder is used


@story.step
def the_installed_command_backs_up_and_serves():
    reclo = story.reclo()
    disk = StampedDisk(story.folder / "plain.img", 24)
    disk.fill(10, 2000)
    reclo.init()
    point = reclo.backup("installed", disk.path)
    socket = reclo.folder / "image.sock"
    uri = f"nbd+unix:///?socket={socket}"
    server = reclo.start("serve", point, "--socket", socket)
    story.later(server.kill)
    lib.wait_until(lambda: server.poll() is not None or (socket.exists() and subprocess.run(
        ["nbdinfo", "--size", uri], capture_output=True, check=False).returncode == 0), 60, "an NBD answer")
    check(server.poll() is None, "the installed reclo serve ended early: does it find its plugin?")
    copied = story.folder / "copied.img"
    subprocess.run(["nbdcopy", uri, copied], check=True, timeout=60)
    check_equal(disk.first_difference(copied, disk.model), None, "what the installed plugin serves")
    plugins = [line.split()[-1] for line in pathlib.Path(f"/proc/{reclo.processes('nbdkit')[0]}/maps")
               .read_text().splitlines() if "reclo-nbdkit-plugin" in line]
    check(plugins and all(path.startswith(str(prefix)) for path in plugins), f"the plugin came from {set(plugins)}")
    server.send_signal(signal.SIGTERM)
    check_equal(server.wait(30), 0, "exit code of reclo serve after SIGTERM")


@story.step
def it_says_its_version():
    told = json.loads(subprocess.run([lib.RECLO, "version", "--json"], capture_output=True, check=True,
                                     timeout=30).stdout)
    check(told["version"], f"version --json says {told}")


@story.step
def bash_completes_verbs_and_options():
    check_equal(completions("reclo", "ba"), ["backup"], "reclo ba")
    check_equal(completions("reclo", "backup", "--comp"), ["--compression"], "reclo backup --comp")
    check_equal(completions("reclo", "key", "a"), ["add"], "reclo key a")
    check_equal(completions("reclo", "verify", "--retry"), ["--retry-for"], "reclo verify --retry")
    check_equal(completions("reclo", "backup", "dis"), [], "a disk's name is left to bash")
    check("restore" in completions("reclo", ""), "an empty word offers all verbs")
    check("instance-supervisor" not in completions("reclo", "in"), "an inner verb is offered")


story.run()
