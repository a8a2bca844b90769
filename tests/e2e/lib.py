"""Helpers of the end-to-end suites: real guests under QEMU, the reclo command, a story of steps.

Everything lives in one temporary folder and on free loopback ports; `Story.run` ends every process
and removes the folder, whatever happened. Only the Python standard library is used.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECLO = os.environ.get("RECLO_BIN", str(ROOT / "build/release/bin/reclo"))
SERVERS = ROOT / "tests" / "servers"
BOOT_LIMIT_S = 420
COMMAND_LIMIT_S = 300


class Failed(Exception):
    """A step's expectation that did not hold."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def check_equal(actual, expected, what):
    if actual != expected:
        raise Failed(f"{what}: expected {expected!r}, got {actual!r}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, limit_s, what):
    """Calls condition until it answers something true, and returns that."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not happen within {limit_s} s")
        time.sleep(0.2)


class Office:
    """The sample server's HTTP face, the same for the tiny and the Debian server."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path, timeout_s=30):
        with urllib.request.urlopen(self.url + path, timeout=timeout_s) as answer:
            return answer.read().decode()

    def try_get(self, path):
        try:
            return self.get(path) or " "
        except (urllib.error.URLError, OSError):
            return None

    def wait(self, path="/cgi-bin/get", limit_s=BOOT_LIMIT_S):
        def ask():
            answer = self.try_get(path)
            if not answer:
                time.sleep(1)  # a request costs a booting guest dearly
            return answer

        return wait_until(ask, limit_s, f"an answer from {self.url}{path}")

    def put(self, text):
        answer = self.get("/cgi-bin/put?" + urllib.parse.quote(text))
        check_equal(answer, f"stored {text}\n", "answer to put")

    def rows(self):
        return self.get("/cgi-bin/get").splitlines()


class Guest(Office):
    """The original server: its disk under QEMU with TCG, frozen and killed by the test."""

    def __init__(self, folder, disk, memory_mib=256, firmware="bios", bus="virtio"):
        self.port = free_port()
        super().__init__(self.port)
        self.disk = pathlib.Path(disk)
        self.console = folder / f"{self.disk.stem}-console.log"
        devices = {"virtio": "virtio-blk-pci,drive=disk", "nvme": "nvme,drive=disk,serial=reclo"}
        command = [
            "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", str(memory_mib),
            "-display", "none", "-serial", f"file:{self.console}",
            "-drive", f"file={disk},format=raw,if=none,id=disk", "-device", devices[bus],
            "-netdev", f"user,id=lan,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:80",
            "-device", "virtio-net-pci,netdev=lan,romfile="]
        if firmware == "uefi":
            variables = folder / f"{self.disk.stem}-vars.fd"
            shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
            command += ["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                        "-drive", f"if=pflash,format=raw,file={variables}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(folder / f"{self.disk.stem}-qemu.log", "wb"))

    def freeze(self):
        """Stops the machine between two instructions: its disk is then as a power cut would leave it."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def destroy(self):
        """The disaster: the machine dies and its disk is gone."""
        self.kill()
        self.disk.unlink()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Reclo:
    """The reclo command with a repository, a passphrase file and a state folder of its own."""

    def __init__(self, folder, repo=None, options=(), env=None):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "state"
        self.repo = str(repo or self.folder / "repository")
        self.options = list(options)
        passphrase = self.folder / "passphrase"
        if not passphrase.exists():
            passphrase.write_text("correct horse battery staple\n")
            passphrase.chmod(0o600)
        inherited = {name: value for name, value in os.environ.items()
                     if not name.startswith(("RECLO_", "AWS_"))}
        self.env = {**inherited, "RECLO_REPO": self.repo, "RECLO_STATE_DIR": str(self.state),
                    "RECLO_PASSPHRASE_FILE": str(passphrase), **(env or {})}

    def start(self, *arguments, env_extra=None, **options):
        return subprocess.Popen([RECLO, *map(str, arguments), *self.options], env={**self.env, **(env_extra or {})},
                                stdin=subprocess.DEVNULL, **options)

    def run(self, *arguments, expect=0, limit_s=COMMAND_LIMIT_S):
        """Runs to the end; expect=None takes any exit code, expect="error" any but 0."""
        result = subprocess.run([RECLO, *map(str, arguments), *self.options], env=self.env, timeout=limit_s,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        shown = " ".join(map(str, arguments))
        print(f"  $ reclo {shown} -> {result.returncode}", *result.stderr.splitlines(), sep="\n    ")
        as_expected = (expect is None or (expect == "error" and result.returncode > 0)
                       or result.returncode == expect)
        if not as_expected:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
            raise Failed(f"reclo {shown} ended with {result.returncode}: {' '.join(last)}")
        return result

    def json(self, *arguments, **options):
        output = self.run(*arguments, "--json", **options).stdout
        try:
            return json.loads(output)
        except ValueError as error:
            raise Failed(f"reclo {' '.join(map(str, arguments))} --json printed no JSON: {error}") from error

    def init(self):
        return self.json("init")

    def backup(self, server, *disks):
        """Returns the new recovery point's id."""
        return self.json("backup", "--server", server, *disks)["id"]

    def recover(self, point, port, memory="256M", *extra):
        """Fails over to QEMU; returns what reclo says of the instance, whose port answers already."""
        return self.json("recover", point, "--on", "qemu", "--accel", "tcg", "--memory", memory,
                         "--forward", f"{port}:80", "--wait-for", f"http:{port}/cgi-bin/get", *extra,
                         limit_s=BOOT_LIMIT_S + 60)

    def processes(self, program):
        """The ids of this state folder's processes of a program, such as nbdkit."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if pathlib.Path(words[0].decode(errors="replace")).name.startswith(program) and any(
                    str(self.folder).encode() in word for word in words):
                found.append(int(entry.name))
        return found

    def stop_all(self):
        if not self.state.exists() or not pathlib.Path(RECLO).exists():
            return
        listed = self.run("instances", "--json", expect=None)
        for instance in json.loads(listed.stdout or "[]") if listed.returncode == 0 else []:
            self.run("stop", instance["id"], "--force", "--delete", expect=None)
        for program in ("qemu-system", "nbdkit", "reclo"):
            for pid in self.processes(program):
                os.kill(pid, signal.SIGKILL)


class Story:
    """Steps in order, each reported as one test. After a step fails the later ones are not reached, and
    fail for that reason: the number of tests never depends on what went wrong."""

    def __init__(self, name):
        self.name = name
        self.steps = []
        self.cleanups = []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"reclo-{name}."))

    def step(self, function):
        self.steps.append(function)
        return function

    def later(self, cleanup):
        """Registers what ends a process or removes a thing; run last to first."""
        self.cleanups.append(cleanup)

    def guest(self, *arguments, **options):
        guest = Guest(self.folder, *arguments, **options)
        self.later(guest.kill)
        return guest

    def reclo(self, **options):
        folder = self.folder / f"reclo{len(self.cleanups)}"
        folder.mkdir()
        reclo = Reclo(folder, **options)
        self.later(reclo.stop_all)
        return reclo

    def make_server(self, kind):
        """A sample server's disk, made by tests/servers/make-KIND.sh."""
        disk = self.folder / f"{kind}.img"
        made = subprocess.run([SERVERS / f"make-{kind}.sh", disk], capture_output=True, text=True, check=False)
        print(made.stdout + made.stderr)
        check(made.returncode == 0, f"make-{kind}.sh failed: {made.stderr.strip()[-300:]}")
        return disk

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        failed_at = None
        try:
            for function in self.steps:
                name = f"{self.name}.{function.__name__}"
                if failed_at:
                    print(f"FAIL {name}: not reached, after {failed_at}", flush=True)
                    continue
                started = time.monotonic()
                try:
                    function()
                    print(f"PASS {name} ({time.monotonic() - started:.1f} s)", flush=True)
                except Exception as error:  # any failure of a step is the step's result
                    traceback.print_exc(file=sys.stdout)
                    failed_at = function.__name__
                    why = " ".join(str(error).split()) or type(error).__name__
                    print(f"FAIL {name}: {why}", flush=True)
                    self.show_consoles()
        finally:
            for cleanup in reversed(self.cleanups):
                try:
                    cleanup()
                except Exception as error:  # the other cleanups must still run
                    print(f"cleanup: {error}")
            shutil.rmtree(self.folder, ignore_errors=True)
        sys.exit(1 if failed_at else 0)

    def show_consoles(self):
        for console in sorted(self.folder.rglob("*console*.log")):
            print(f"--- {console.name}, its end")
            print(console.read_text(errors="replace")[-1500:])
