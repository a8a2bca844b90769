"""One QEMU: a machine as an EC2 instance sees it, and the monitor it is told things through.

q35 with an NVMe controller for each volume (the root first), a serial console into a file, VGA for the
screenshot, a virtio network card on the namespace's TAP: QEMU has no ENA. BIOS unless the image says UEFI.
TCG only: a KVM that exists is not one that works everywhere. QEMU is started with -no-shutdown, so that
its monitor can say why a guest ended before it goes away.
"""

import contextlib
import json
import queue
import shutil
import socket
import subprocess
import threading
import time

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
FIRMWARE_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
MONITOR_LIMIT_S = 60
CONSOLE_SHOWN_BYTES = 64 << 10


class Monitor:
    """QMP. `ended` gets "guest-shutdown", "host-qmp-quit" and the like once, "" when QEMU is just gone."""

    def __init__(self, path, alive):
        self.ended = queue.Queue()
        self.answers = queue.Queue()
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + MONITOR_LIMIT_S
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if not alive() or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        threading.Thread(target=self.listen, daemon=True).start()
        self.command("qmp_capabilities")

    def listen(self):
        with contextlib.suppress(OSError, ValueError):
            for line in self.lines:
                message = json.loads(line)
                if message.get("event") == "SHUTDOWN":
                    self.ended.put(message["data"]["reason"])
                elif "return" in message or "error" in message:
                    self.answers.put(message)
        self.ended.put("")
        self.answers.put({"error": {"desc": "the machine is gone"}})

    def command(self, name, **arguments):
        with self.lock:
            self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
            answer = self.answers.get(timeout=MONITOR_LIMIT_S)
        if "error" in answer:
            raise OSError(f"{name}: {answer['error']['desc']}")
        return answer["return"]


class Machine:
    """Runs from construction on. `volumes`: VolumeStore, the root's first. `rates`: volume id -> MiB/s at which
    what lies in its snapshot is read, where that is limited."""

    def __init__(self, folder, name, namespace, mac, volumes, firmware, memory_mib, vcpus, rates):
        self.folder, self.name, self.namespace = folder, name, namespace
        self.console, self.monitor_path = folder / "console.log", folder / "monitor"
        self.monitor_path.unlink(missing_ok=True)
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-name", name, "-nodefaults",
                   "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(memory_mib),
                   "-smp", str(vcpus), "-display", "none", "-vga", "std", "-no-shutdown",
                   "-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console",
                   "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
                   "-smbios", f"type=1,manufacturer=Amazon EC2,product=lab,serial={name},uuid={uuid_of(name)}",
                   "-netdev", "tap,id=lan,ifname=tap0,script=no,downscript=no",
                   "-device", f"virtio-net-pci,netdev=lan,mac={mac},romfile=",
                   *self.firmware_options(firmware)]
        for number, volume in enumerate(volumes):
            serial = volume.id.replace("-", "")
            node = {"driver": "qcow2", "node-name": serial, "discard": "unmap",
                    "file": {"driver": "file", "filename": str(volume.top), "discard": "unmap"}}
            if volume.id in rates and volume.snapshot_below():
                limit = int(rates[volume.id] * (1 << 20))
                node["backing"] = f"{serial}-lazy"
                command += ["-object", f"throttle-group,id={serial}-rate,x-bps-read={limit}", "-blockdev", json.dumps({
                    "driver": "throttle", "node-name": node["backing"], "throttle-group": f"{serial}-rate",
                    "read-only": True, "file": {"driver": "qcow2", "read-only": True, "file": {
                        "driver": "file", "filename": str(volume.snapshot_below()), "read-only": True}}})]
            command += ["-blockdev", json.dumps(node), "-device",
                        f"nvme,drive={serial},serial={serial},bootindex={number}"]
        with open(folder / "qemu.log", "ab") as log:
            self.process = namespace.call(lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                                   stderr=log))
        self.nodes = {volume.id: volume.id.replace("-", "") for volume in volumes}
        self.shot = b""
        try:
            self.monitor = Monitor(self.monitor_path, self.alive)
        except OSError:
            self.kill()
            raise

    def firmware_options(self, firmware):
        if firmware != "uefi":
            return []
        variables = self.folder / "uefi-vars.fd"
        if not variables.exists():
            shutil.copy(FIRMWARE_VARIABLES, variables)
        return ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
                "-drive", f"if=pflash,format=raw,file={variables}"]

    def alive(self):
        return self.process.poll() is None

    def press_power_button(self):
        self.monitor.command("system_powerdown")

    def reset(self):
        self.monitor.command("system_reset")
        self.monitor.command("cont")

    def freeze_layers(self, volumes):
        """Gives volumes new layers at one instant; what they held until then lies in the returned ones."""
        actions, frozen = [], []
        for volume in volumes:
            path = volume.next_path()
            actions.append({"type": "blockdev-snapshot-sync", "data": {
                "node-name": self.nodes[volume.id], "snapshot-file": str(path), "format": "qcow2",
                "snapshot-node-name": f"{volume.id.replace('-', '')}-{len(volume.layers)}"}})
            frozen.append(volume.top)
        self.monitor.command("transaction", actions=actions)
        for volume, action in zip(volumes, actions):
            volume.layers.append(volume.next_path())
            self.nodes[volume.id] = action["data"]["snapshot-node-name"]
        return frozen

    def screenshot(self):
        """The screen as PNG; the last one when the machine no longer runs."""
        path = self.folder / "screen.png"
        with contextlib.suppress(OSError, queue.Empty):
            if self.alive():
                self.monitor.command("screendump", filename=str(path), format="png")
                self.shot = path.read_bytes()
        return self.shot

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()


def console_of(folder):
    """The end of what a machine wrote on its serial console since its first start."""
    try:
        return (folder / "console.log").read_bytes()[-CONSOLE_SHOWN_BYTES:]
    except FileNotFoundError:
        return b""


def uuid_of(name):
    """Begins with ec2, by which software knows where it is."""
    digits = name.removeprefix("i-").rjust(17, "0")
    return f"ec2{digits[:5]}-{digits[5:9]}-4{digits[9:12]}-8{digits[12:15]}-{digits[15:17]}0000000000"
