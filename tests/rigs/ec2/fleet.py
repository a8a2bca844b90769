"""Instances that really run: moto keeps their description, `Fleet` makes each one a machine.

       RunInstances            StopInstances / the guest powers off / QEMU dies
    pending ─────────▶ running ─────────────────────────────────▶ stopping ─▶ stopped ─ StartInstances ▶ pending
                          │ TerminateInstances (from anywhere)
                          └───────────────▶ shutting-down ─▶ terminated, its volumes and its folder gone

Threads: requests call under moto's lock and return at once; a thread for each instance's change of state
does the work, and takes the lock only to change what moto holds.
"""

import base64
import contextlib
import ipaddress
import pathlib
import queue
import random
import shutil
import threading
import time
import traceback

import metadata
import network
from capacity import memory_mib_of, vcpus_of
from disks import VolumeStore
from machine import Machine, console_of
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import InstanceState, StateReason
from refusal import ACCOUNT, Refusal

STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class Unit:
    """What an instance has beside its description. `thread` does its current change of state."""

    def __init__(self, folder):
        self.folder = folder
        self.namespace = self.machine = self.forwards = self.metadata = self.thread = None
        self.rebooting = self.stopping = False
        self.ended_because = None  # StateReason of an end that nobody asked EC2 for
        self.shot = b""  # the last screen of a machine that is gone


class Fleet:
    def __init__(self, folder, region, ebs, lock, endpoint):
        """endpoint: (address, port) of the stand-in itself, for guests."""
        self.folder = pathlib.Path(folder) / "instances"
        self.folder.mkdir()
        self.region, self.ebs, self.lock, self.endpoint = region, ebs, lock, endpoint
        self.units = {}  # instance id -> Unit
        self.volumes = {}  # volume id -> VolumeStore
        self.settings = {"memory_cap_mib": 512, "vcpus_cap": 1, "stop_grace_s": 120.0, "launch_s": 0.0,
                         "operator": "127.0.0.1", "first_touch_mib_s": 0.0}
        self.initialization = {}  # volume id -> the VolumeInitializationRate it was asked for with

    # ---- called by requests, under the lock

    def launch(self, instance):
        unit = Unit(self.folder / instance.id)
        unit.folder.mkdir()
        self.units[instance.id] = unit
        self.change(instance, "pending")
        self.begin(unit, self.boot, instance)

    def start(self, instance):
        if instance.state == "stopped":
            self.change(instance, "pending", "")
            instance.state_reason = StateReason()
            for nic in instance.nics.values():
                nic.start()
            unit = self.units[instance.id]
            unit.machine = None
            self.begin(unit, self.boot, instance)
        elif instance.state not in ("pending", "running"):
            raise Refusal("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it "
                                                    "can be started.")

    def stop(self, instance, force):
        if instance.state in ("stopping", "stopped"):
            return
        if instance.state != "running":
            raise Refusal("IncorrectInstanceState", f"This instance '{instance.id}' is not in a state from which it "
                                                    "can be stopped.")
        self.change(instance, "stopping", user_initiated())
        instance.state_reason = StateReason("Client.UserInitiatedShutdown: User initiated shutdown",
                                            "Client.UserInitiatedShutdown")
        self.units[instance.id].stopping = True
        threading.Thread(target=self.shut_down, args=(self.units[instance.id], force), daemon=True).start()

    def terminate(self, instance, plain_terminate):
        if instance.state in ("shutting-down", "terminated"):
            return
        self.change(instance, "shutting-down", user_initiated())
        unit = self.units[instance.id]
        unit.stopping = True
        threading.Thread(target=self.end, args=(instance, unit, plain_terminate), daemon=True).start()

    def reboot(self, instance):
        unit = self.units[instance.id]
        if instance.state != "running":
            raise Refusal("IncorrectState", f"The instance '{instance.id}' is not running")
        unit.rebooting = True
        threading.Thread(target=self.shut_down, args=(unit, False), daemon=True).start()

    def refresh_forwards(self):
        """Security groups or addresses may have changed."""
        for instance_id, unit in self.units.items():
            if unit.forwards and unit.machine and unit.machine.alive():
                instance = self.find(instance_id)
                rules = [rule for group in groups_of(instance) for rule in group.ingress_rules]
                unit.forwards.set(instance.public_ip, network.open_ports(rules, self.settings["operator"]))

    def snapshot(self, volumes_and_ids, folder):
        """Begins snapshots of volumes at one instant; a thread reads them."""
        stores = [self.volumes[volume_id] for volume_id, _ in volumes_and_ids]
        running = [unit.machine for unit in self.units.values() if unit.machine and unit.machine.alive()
                   and stores[0].id in unit.machine.nodes]
        frozen = running[0].freeze_layers(stores) if running else [store.freeze_offline() for store in stores]
        fills = []
        for store, layer, (_, snapshot_id) in zip(stores, frozen, volumes_and_ids):
            snapshot, fill = store.snapshot_of(layer, snapshot_id, folder)
            self.ebs.snapshots[snapshot_id] = snapshot
            fills.append((snapshot, fill))
        threading.Thread(target=fill_all, args=(fills, self.ebs), daemon=True).start()

    def remove_volume(self, volume_id):
        if store := self.volumes.pop(volume_id, None):
            store.remove()

    # ---- what tests and other services see

    def console(self, instance_id):
        return console_of(self.folder / instance_id)

    def screenshot(self, instance_id):
        unit = self.units.get(instance_id)
        machine = unit and unit.machine
        return (machine.screenshot() if machine else b"") or (unit.shot if unit else b"")

    def cable(self, instance_id, port):
        forwards = self.units[instance_id].forwards
        return forwards.cable(port) if forwards else None

    def power_off(self, instance_id):
        """The guest shuts itself down: nobody asked EC2 for it."""
        self.units[instance_id].machine.press_power_button()
        return {}

    def asked(self, instance_id):
        unit = self.units[instance_id]
        return list(unit.metadata.asked) if unit.metadata else []

    def find(self, instance_id):
        return ec2_backends[ACCOUNT][self.region].get_instance(instance_id)

    # ---- threads

    def begin(self, unit, function, instance):
        unit.thread = threading.Thread(target=function, args=(instance, unit), daemon=True)
        unit.thread.start()

    def change(self, instance, state, reason=None):
        instance._state = InstanceState(state, STATES[state])
        if reason is not None:
            instance._reason = reason

    def boot(self, instance, unit):
        """From pending to running, and then to the end of the machine."""
        try:
            time.sleep(self.settings["launch_s"])
            with self.lock:
                if instance.state != "pending":
                    return  # terminated before it began
                unit.stopping = unit.rebooting = False
                unit.ended_because = None
                volumes = self.volumes_of(instance)
                image = instance.ec2_backend.amis.get(instance.image_id)
                firmware = getattr(image, "boot_mode", None)
                subnet = ipaddress.ip_network(instance.nics[0].subnet.cidr_block)
            self.connect(instance, unit, subnet)
            unit.machine = Machine(
                unit.folder, instance.id, unit.namespace, instance.nics[0].mac_address, volumes,
                "uefi" if firmware in ("uefi", "uefi-preferred") else "bios",
                min(memory_mib_of(instance.instance_type), int(self.settings["memory_cap_mib"])),
                min(vcpus_of(instance.instance_type), int(self.settings["vcpus_cap"])), self.rates(volumes))
            with self.lock:
                if instance.state == "pending":
                    self.change(instance, "running", "")
                    instance.state_reason = StateReason()
                self.refresh_forwards()
            self.watch(instance, unit)
        except Exception:
            traceback.print_exc()
            self.disconnect(unit)
            with self.lock:
                if instance.state in ("pending", "running", "stopping"):
                    self.change(instance, "stopped", "Server.InternalError")
                    instance.state_reason = StateReason("Server.InternalError: Internal error on launch",
                                                        "Server.InternalError")

    def volumes_of(self, instance):
        """Its volumes' stores, made when they are first used; the root's first."""
        devices = sorted(instance.get_block_device_mapping,
                         key=lambda one: (one[0] != instance.root_device_name, one[0]))
        stores = []
        for _, device in devices:
            if device.volume_id not in self.volumes:
                volume = instance.ec2_backend.volumes[device.volume_id]
                self.volumes[volume.id] = VolumeStore(self.folder, volume.id, int(volume.size),
                                                      self.ebs.snapshots.get(volume.snapshot_id))
            stores.append(self.volumes[device.volume_id])
        return stores

    def rates(self, volumes):
        """How fast new volumes give what was never touched: EBS loads them from S3 meanwhile."""
        plain = float(self.settings["first_touch_mib_s"])
        if not plain:
            return {}
        return {volume.id: max(plain, float(self.initialization.get(volume.id, 0))) for volume in volumes}

    def connect(self, instance, unit, subnet):
        router, resolver = str(subnet[1]), str(subnet[2])
        unit.namespace = network.Namespace(
            [f"{router}/{subnet.prefixlen}", f"{resolver}/32",
             *(f"{address}/32" for address in (network.METADATA, network.RESOLVER, network.ENDPOINT))])
        name = instance.private_dns_name
        network.serve_datagrams(unit.namespace.datagrams("0.0.0.0", 67, "tap0"),
                                network.Dhcp(instance.private_ip, subnet, router, resolver, name))
        for address in (resolver, network.RESOLVER):
            network.serve_datagrams(unit.namespace.datagrams(address, 53), network.Dns({name: instance.private_ip}))
        unit.metadata = metadata.serve(unit.namespace.listen(network.METADATA, 80), lambda: self.describe(instance))
        threading.Thread(target=unit.metadata.serve_forever, daemon=True).start()
        network.relay(unit.namespace.listen(network.ENDPOINT, 80), lambda: self.way_out(instance))
        unit.forwards = network.Forwards(unit.namespace, instance.private_ip)

    def describe(self, instance):
        """What the metadata service knows, and whether it may say so."""
        with self.lock:
            options = instance.metadata_options
            image = instance.ec2_backend.amis.get(instance.image_id)
            required = options.http_tokens == "required" or getattr(image, "imds_support", None) == "v2.0"
            key = instance.ec2_backend.key_pairs.get(instance.key_name)
            tree = metadata.tree_of(instance, self.region, ACCOUNT,
                                    (key.key_name, key.public_key) if key else None)
            if instance.user_data:
                tree["user-data"] = base64.b64decode(str(instance.user_data))
            return {"enabled": options.http_endpoint != "disabled", "tokens_required": required, "tree": tree}

    def way_out(self, instance):
        """A connection to the stand-in, when the security groups let the instance out."""
        with self.lock:
            if not any(group.egress_rules for group in groups_of(instance)):
                raise PermissionError("no egress")
        return network.socket.create_connection(self.endpoint)

    def watch(self, instance, unit):
        """Until the machine is over, whoever ended it; then says why."""
        while True:
            reason = unit.machine.monitor.ended.get()
            if unit.rebooting and reason and not unit.stopping:
                unit.rebooting = False
                unit.machine.reset()
                continue
            break
        unit.shot = unit.machine.screenshot()
        unit.machine.kill()
        self.disconnect(unit)
        with self.lock:
            if instance.state in ("running", "pending"):
                self.explain(instance, unit, reason)
            if instance.state == "stopping":
                for nic in instance.nics.values():
                    nic.stop()
                self.change(instance, "stopped")
        if instance.state == "running":  # the guest ended itself and wants to be gone
            with self.lock:
                instance.ec2_backend.terminate_instances([instance.id])

    def explain(self, instance, unit, reason):
        """An end that nobody asked EC2 for."""
        if reason.startswith("guest"):
            word, words = "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
        else:
            word, words = "Server.InternalError", "Internal error"
        unit.ended_because = StateReason(f"{word}: {words}", word)
        instance._reason, instance.state_reason = "", unit.ended_because
        if instance.instance_initiated_shutdown_behavior != "terminate" or word.startswith("Server"):
            self.change(instance, "stopping")

    def shut_down(self, unit, force):
        """Presses the power button, and pulls the plug when that does not help in time."""
        machine = unit.machine
        with contextlib.suppress(OSError, queue.Empty):
            if not force:
                machine.press_power_button()
                deadline = time.monotonic() + float(self.settings["stop_grace_s"])
                while machine.alive() and time.monotonic() < deadline:
                    if not unit.stopping and not unit.rebooting:
                        return  # rebooted
                    time.sleep(0.1)
            if unit.rebooting and not unit.stopping:
                unit.rebooting = False
                machine.reset()
            elif machine.alive():
                machine.process.kill()

    def end(self, instance, unit, plain_terminate):
        while not unit.machine and unit.thread.is_alive():
            time.sleep(0.05)
        if unit.machine and unit.machine.alive():
            unit.shot = unit.machine.screenshot()
            unit.machine.process.kill()
        unit.thread.join()
        self.disconnect(unit)
        with self.lock:
            plain_terminate(instance)
            if unit.ended_because:
                instance._reason, instance.state_reason = "", unit.ended_because
        (unit.folder / "uefi-vars.fd").unlink(missing_ok=True)

    @staticmethod
    def disconnect(unit):
        if unit.forwards:
            unit.forwards.close()
        if unit.metadata:
            unit.metadata.shutdown()
            unit.metadata.server_close()
        if unit.namespace:
            unit.namespace.close()
        unit.forwards = unit.metadata = unit.namespace = None

    def close(self):
        for unit in self.units.values():
            if unit.machine:
                unit.machine.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def fill_all(fills, ebs):
    for snapshot, fill in fills:
        try:
            fill()
            snapshot.completed = time.time() + ebs.complete_s
        except Exception:
            traceback.print_exc()
            snapshot.failed = "lab"


def groups_of(instance):
    return instance.nics[0].group_set


def user_initiated():
    return f"User initiated ({utcnow().strftime('%Y-%m-%d %H:%M:%S GMT')})"


def loopback_public_ip():
    """A public address that this machine can be asked at, and no other."""
    return f"127.{random.randint(16, 239)}.{random.randint(0, 255)}.{random.randint(2, 254)}"
