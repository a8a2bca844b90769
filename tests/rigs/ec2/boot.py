"""Puts a `Fleet` behind moto's EC2: what moto only writes down is then done."""

import base64
import copy

import fleet as fleet_module
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.models import elastic_block_store, elastic_network_interfaces
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from refusal import Refusal


def install(fleet, ebs):
    """Patches moto once for this process, after ec2_strict.install()."""
    elastic_network_interfaces.random_public_ip = fleet_module.loopback_public_ip
    install_states(fleet)
    install_volumes(fleet, ebs)
    install_consoles(fleet)


def install_states(fleet):
    run, response_stop = InstanceBackend.run_instances, InstanceResponse.stop_instances
    plain = {name: getattr(Instance, name) for name in ("start", "stop", "terminate", "reboot")}

    def run_instances(self, image_id, *arguments, **rest):
        rates = {mapping["DeviceName"]: mapping["Ebs"].get("VolumeInitializationRate")
                 for mapping in rest.get("block_device_mappings") or []}
        reservation = run(self, image_id, *arguments, **rest)
        for instance in reservation.instances:
            if instance.id not in fleet.units and getattr(self.amis.get(instance.image_id), "lab_disks", None):
                fleet.initialization.update({device.volume_id: rates[name] for name, device in
                                             instance.get_block_device_mapping if rates.get(name)})
                fleet.launch(instance)
        return reservation

    def changed(name, change):
        def method(self):
            if self.id not in fleet.units:
                return plain[name](self)
            before = copy.copy(self.instance_state)
            change(self)
            return before
        setattr(Instance, name, method)

    forced = []

    def stop_instances(self):
        forced[:] = [str(self._get_param("Force", False)).lower() == "true"]
        return response_stop(self)

    InstanceBackend.run_instances, InstanceResponse.stop_instances = run_instances, stop_instances
    changed("start", fleet.start)
    changed("stop", lambda instance: fleet.stop(instance, bool(forced and forced[0])))
    changed("terminate", lambda instance: fleet.terminate(instance, plain["terminate"]))
    changed("reboot", fleet.reboot)


def install_volumes(fleet, ebs):
    block_store = elastic_block_store.EBSBackend
    create, create_many, delete = block_store.create_snapshot, block_store.create_snapshots, block_store.delete_volume
    attach, detach = block_store.attach_volume, block_store.detach_volume
    together = []  # the snapshots of one CreateSnapshots, None outside of one

    def create_snapshot(self, volume_id, *arguments, **rest):
        snapshot = create(self, volume_id, *arguments, **rest)
        if volume_id in fleet.volumes:
            ebs.remove(snapshot.id)  # ec2_strict took the volume for one that nothing wrote to
            if together:
                together[-1].append((volume_id, snapshot.id))
            else:
                fleet.snapshot([(volume_id, snapshot.id)], ebs.folder)
        return snapshot

    def create_snapshots(self, *arguments, **rest):
        together.append([])
        try:
            snapshots = create_many(self, *arguments, **rest)
            if together[-1]:
                fleet.snapshot(together[-1], ebs.folder)
            return snapshots
        finally:
            together.pop()

    def delete_volume(self, volume_id):
        deleted = delete(self, volume_id)
        fleet.remove_volume(volume_id)
        return deleted

    def stopped_first(plain):
        """A running machine's disks stay as they are: QEMU's are not changed while it runs."""
        def method(self, volume_id, instance_id, *arguments, **rest):
            attached = self.volumes[volume_id].attachment if volume_id in self.volumes else None
            instance_id = instance_id or (attached.instance.id if attached else None)
            if instance_id in fleet.units and fleet.find(instance_id).state in ("running", "stopping"):
                raise Refusal("IncorrectState", f"The stand-in changes the volumes of '{instance_id}' only while it "
                                                "is stopped.")
            return plain(self, volume_id, instance_id, *arguments, **rest)
        return method

    block_store.create_snapshot, block_store.create_snapshots = create_snapshot, create_snapshots
    block_store.delete_volume = delete_volume
    block_store.attach_volume, block_store.detach_volume = stopped_first(attach), stopped_first(detach)


def install_consoles(fleet):
    def get_console_output(self):
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = base64.b64encode(fleet.console(instance.id)).decode()
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": Base64EncodedString(text)})

    def get_console_screenshot(self):
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        if instance.state != "running":
            raise Refusal("IncorrectState", f"The instance '{instance.id}' is not in the 'running' state.")
        image = base64.b64encode(fleet.screenshot(instance.id)).decode()
        return ActionResult({"InstanceId": instance.id, "ImageData": image})

    General.get_console_output, General.get_console_screenshot = get_console_output, get_console_screenshot
