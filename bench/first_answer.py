"""Time to the first answer of the server's page: from a local raw file, a folder repository, and S3 far away."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from workload import ROOT

sys.path.insert(0, str(ROOT / "tests/e2e"))
import stores  # noqa: E402

LIMIT_S = 900
DELAY_MS = 10  # each way


class Cleanup:
    """What the S3 rigs ask of a test story: a folder, and a list of what to end."""

    def __init__(self, folder):
        self.folder = folder
        self.actions = []

    def later(self, action):
        self.actions.append(action)

    def run(self):
        for action in reversed(self.actions):
            action()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def boot_local(disk, work):
    port = free_port()
    started = time.monotonic()
    guest = subprocess.Popen(
        ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024", "-smp", "1", "-display", "none",
         "-serial", f"file:{work / 'local-console.log'}",
         "-drive", f"file={disk},format=raw,if=none,id=disk,snapshot=on", "-device", "virtio-blk-pci,drive=disk",
         "-netdev", f"user,id=lan,hostfwd=tcp:127.0.0.1:{port}-:80", "-device", "virtio-net-pci,netdev=lan,romfile="],
        stdin=subprocess.DEVNULL)
    try:
        while time.monotonic() < started + LIMIT_S:
            asked = time.monotonic()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/cgi-bin/get", timeout=30).read()
                return time.monotonic() - started
            except urllib.error.HTTPError:  # as ReClo does: a request costs a booting guest dearly
                time.sleep(min(max(0.5, 2 * (time.monotonic() - asked)), 5))
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError("the local boot did not answer")
    finally:
        guest.kill()
        guest.wait()


def boot_reclo(binary, env, options, point):
    port = free_port()
    run = subprocess.run([binary, "recover", point, "--on", "qemu", "--accel", "tcg", "--memory", "1G", "--cpus", "1",
                          "--forward", f"{port}:80", "--wait-for", f"http:{port}/cgi-bin/get", "--wait-timeout", str(LIMIT_S),
                          "--json", *options], env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(run.stderr[-1000:])
    told = json.loads(run.stdout)
    subprocess.run([binary, "stop", told["id"], "--force", "--delete"], env={**os.environ, **env}, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return told["first_answer_ms"] / 1000


def far_s3(rig, work):
    server = stores.start_moto(rig)
    log = open(work / "proxy.log", "wb")
    proxy = subprocess.Popen([sys.executable, ROOT / "tests/rigs/tcp_proxy.py", "--to", server.endpoint.split("//")[1],
                              "--delay-ms", str(DELAY_MS)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    rig.later(lambda: (proxy.kill(), proxy.wait()))
    while True:
        ready = re.search(r"ready (\S+)", (work / "proxy.log").read_text())
        if ready:
            return server, f"http://{ready.group(1)}"
        time.sleep(0.05)


def measure_first_answers(work, disk, reclo, note):
    out = {"local": boot_local(disk, work)}
    note(f"first answer: local raw file {out['local']:.1f} s")
    out["folder"] = boot_reclo(reclo.binary, reclo.env, [], reclo.points[-1])
    note(f"first answer: folder repository {out['folder']:.1f} s")
    rig = Cleanup(work)
    try:
        server, far_endpoint = far_s3(rig, work)
        env = {**reclo.env, **server.env, "RECLO_REPO": server.repo, "RECLO_STATE_DIR": str(pathlib.Path(work) / "s3-state")}
        for verb in (["init"], ["backup", "--server", "bench", str(disk)]):
            subprocess.run([reclo.binary, *verb, *server.options], env={**os.environ, **env}, check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        env["RECLO_S3_ENDPOINT"] = far_endpoint
        out["s3_20ms"] = boot_reclo(reclo.binary, env, server.options, "latest:bench")
        note(f"first answer: S3 with 20 ms {out['s3_20ms']:.1f} s")
    finally:
        rig.run()
    return out
