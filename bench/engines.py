"""ReClo and its peers behind one face: back up a disk image, restore it, tell sizes."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time

from workload import ROOT


class Run:
    def __init__(self, seconds, peak_rss_bytes, stdout, later_peak_rss_bytes=None):
        self.seconds, self.peak_rss_bytes, self.stdout = seconds, peak_rss_bytes, stdout
        self.later_peak_rss_bytes = later_peak_rss_bytes  # of its later part alone, when that was asked


def timed(command, env=None, later_from=None):
    """Runs a command to its end. With later_from, which stands in a line of its stderr, the peak memory from that
    line on is told apart as well."""
    started = time.monotonic()
    with open("/dev/null") as null:
        process = subprocess.Popen([str(word) for word in command], env={**os.environ, **(env or {})}, stdin=null,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stderr, early_peak_bytes = [], []

        def read_stderr():
            for line in process.stderr:
                stderr.append(line)
                if later_from and not early_peak_bytes and later_from.encode() in line:
                    proc = pathlib.Path(f"/proc/{process.pid}")
                    early_peak_bytes.append(int(re.search(r"VmHWM:\s+(\d+)", (proc / "status").read_text())[1]) * 1024)
                    (proc / "clear_refs").write_text("5")  # proc(5): resets the peak

        reader = threading.Thread(target=read_stderr)
        reader.start()
        stdout = process.stdout.read()
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{command[0]} failed: {b''.join(stderr).decode()[-1000:]}")
    peak_bytes = usage.ru_maxrss * 1024
    return Run(time.monotonic() - started, max([peak_bytes, *early_peak_bytes]), stdout.decode(),
               peak_bytes if early_peak_bytes else None)


def tree_bytes(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


class Engine:
    name = ""
    keeps_points = True

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.points = []

    def stored_bytes(self):
        return tree_bytes(self.folder / "repository")


class Reclo(Engine):
    name = "reclo"

    def __init__(self, folder, binary=None):
        super().__init__(folder)
        self.binary = str(binary or os.environ.get("RECLO_BIN", ROOT / "build/release/bin/reclo"))
        (self.folder / "passphrase").write_text("correct horse battery staple\n")
        (self.folder / "passphrase").chmod(0o600)
        self.env = {"RECLO_REPO": str(self.folder / "repository"), "RECLO_STATE_DIR": str(self.folder / "state"),
                    "RECLO_PASSPHRASE_FILE": str(self.folder / "passphrase")}
        timed([self.binary, "init"], self.env)
        self.last = None

    def backup(self, disk):
        run = timed([self.binary, "backup", "--server", "bench", disk, "--json"], self.env)
        self.last = json.loads(run.stdout)
        self.points.append(self.last["id"])
        return run

    def restore(self, index, target):
        # Unlocking takes Argon2id's 256 MiB, by design; what reading takes is told apart.
        return timed([self.binary, "restore", self.points[index], "--to", target, "--progress=json"], self.env,
                     later_from='"stage"')


class Restic(Engine):
    name = "restic"

    def __init__(self, folder):
        super().__init__(folder)
        self.env = {"RESTIC_PASSWORD": "correct horse battery staple", "RESTIC_REPOSITORY": str(self.folder / "repository"),
                    "RESTIC_CACHE_DIR": str(self.folder / "cache")}
        timed(["restic", "init", "-q"], self.env)

    def backup(self, disk):
        run = timed(["restic", "backup", "--json", disk], self.env)
        summary = [json.loads(line) for line in run.stdout.splitlines() if '"summary"' in line][-1]
        self.points.append(summary["snapshot_id"])
        return run

    def restore(self, index, target):
        run = timed(["restic", "restore", "-q", self.points[index], "--target", f"{target}.dir"], self.env)
        shutil.rmtree(f"{target}.dir")
        return run


class Borg(Engine):
    name = "borg"

    def __init__(self, folder):
        super().__init__(folder)
        self.env = {"BORG_PASSPHRASE": "correct horse battery staple", "BORG_REPO": str(self.folder / "repository"),
                    "BORG_BASE_DIR": str(self.folder / "base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
                    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        timed(["borg", "init", "--encryption=repokey"], self.env)

    def backup(self, disk):
        name = f"p{len(self.points)}"
        run = timed(["borg", "create", "--compression", "zstd,3", "--chunker-params", "fixed,4194304", f"::{name}", disk],
                    self.env)
        self.points.append(name)
        return run

    def restore(self, index, target):
        folder = pathlib.Path(f"{target}.dir")
        folder.mkdir()
        started = os.getcwd()
        os.chdir(folder)
        try:
            return timed(["borg", "extract", "--sparse", f"::{self.points[index]}"], self.env)
        finally:
            os.chdir(started)
            shutil.rmtree(folder)


class QemuImg(Engine):
    """A compressed, unencrypted copy: the simplest thing that could be done; full copies only."""
    name = "qemu-img"
    keeps_points = False

    def backup(self, disk):
        (self.folder / "repository").mkdir(exist_ok=True)
        return timed(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", "-W", "-m", "8",
                      disk, self.folder / "repository/disk.qcow2"])

    def restore(self, _index, target):
        return timed(["qemu-img", "convert", "-O", "raw", "-W", "-m", "8", self.folder / "repository/disk.qcow2", target])


class Kopia(Engine):
    name = "kopia"

    def __init__(self, folder):
        super().__init__(folder)
        self.env = {"KOPIA_PASSWORD": "correct horse battery staple", "KOPIA_CONFIG_PATH": str(self.folder / "config"),
                    "KOPIA_CACHE_DIRECTORY": str(self.folder / "cache")}
        (self.folder / "repository").mkdir()
        timed(["kopia", "repository", "create", "filesystem", "--path", self.folder / "repository"], self.env)

    def backup(self, disk):
        run = timed(["kopia", "snapshot", "create", "--json", pathlib.Path(disk).parent], self.env)
        self.points.append(json.loads(run.stdout)["id"])
        return run

    def restore(self, index, target):
        run = timed(["kopia", "snapshot", "restore", self.points[index], f"{target}.dir"], self.env)
        shutil.rmtree(f"{target}.dir")
        return run


def available_engines():
    peers = [("restic", Restic), ("borg", Borg), ("qemu-img", QemuImg), ("kopia", Kopia)]
    return [Reclo] + [engine for program, engine in peers if shutil.which(program)]
