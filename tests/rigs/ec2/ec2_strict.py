"""moto's EC2 with what a recovery leans on made as strict as AWS.

RegisterImage keeps its disks and attributes, RunInstances makes the volumes from them and honours its
ClientToken, snapshots have the state that EBS direct gives them, and what AWS refuses is refused.
"""

import copy
import ipaddress

from ebs_direct import EbsDirect
from moto.core.responses import ActionResult
from moto.ec2.models import amis, ec2_backends, elastic_block_store, instances, security_groups
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.instances import InstanceResponse
from refusal import ACCOUNT, Refusal

NO_TOKEN = "ABCDE"  # what moto passes when a request has no client token


def mapping_of(backend, entry):
    """One of an image's disks as DescribeImages shows it."""
    ebs = dict(entry.get("Ebs") or {})
    snapshot = backend.snapshots.get(ebs.get("SnapshotId"))
    if ebs.get("SnapshotId"):
        if not snapshot:
            raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{ebs['SnapshotId']}' does not exist.")
        if snapshot.status != "completed":
            raise Refusal("IncorrectState", f"The snapshot '{snapshot.id}' is not completed.")
    size = int(ebs.get("VolumeSize") or (snapshot.volume.size if snapshot else 8))
    if snapshot and size < snapshot.volume.size:
        raise Refusal("InvalidBlockDeviceMapping",
                      f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}'")
    return {"DeviceName": entry["DeviceName"], "Ebs": {
        "SnapshotId": ebs.get("SnapshotId"), "VolumeSize": size, "VolumeType": ebs.get("VolumeType") or "standard",
        "DeleteOnTermination": str(ebs.get("DeleteOnTermination", "true")).lower() == "true",
        "Encrypted": False}}


def register_image(self):
    backend, name = self.ec2_backend, self._get_param("Name")
    if not name:
        raise Refusal("MissingParameter", "The request must contain the parameter name")
    if any(image.name == name and image.owner_id == backend.account_id for image in backend.amis.values()):
        raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
    entries = self._get_param("BlockDeviceMappings", [])
    root = self._get_param("RootDeviceName")
    if root and not any(entry.get("DeviceName") == root for entry in entries):
        raise Refusal("InvalidBlockDeviceMapping", "The root device has no mapping")
    disks = [mapping_of(backend, entry) for entry in entries]
    self.error_on_dryrun()
    image = backend.register_image(name, self._get_param("Description", ""))
    backend.snapshots.pop(image.ebs_snapshot.id, None)  # moto's own, of nothing
    image.lab_disks = disks
    image.architecture = self._get_param("Architecture") or "i386"
    image.virtualization_type = self._get_param("VirtualizationType") or "paravirtual"
    image.root_device_name, image.root_device_type = root or "/dev/sda1", "ebs"
    image.boot_mode = self._get_param("BootMode")
    image.ena_support = str(self._get_param("EnaSupport") or "").lower() == "true"
    image.imds_support = self._get_param("ImdsSupport")
    for specification in self._get_param("TagSpecifications", []) or []:
        if specification.get("ResourceType") == "image":
            image.add_tags({tag["Key"]: tag["Value"]
                            for tag in specification.get("Tags", specification.get("Tag", []))})
    return ActionResult({"ImageId": image.id})


def check_private_ip(backend, address, subnet_id):
    network = ipaddress.ip_network(backend.get_subnet(subnet_id).cidr_block)
    if ipaddress.ip_address(address) not in network:
        raise Refusal("InvalidParameterValue",
                      f"Address {address} does not fall within the subnet's address range")
    reserved = [str(network[number]) for number in (0, 1, 2, 3, -1)]
    if address in reserved:
        raise Refusal("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
    for reservation in backend.reservations.values():
        for instance in reservation.instances:
            if instance.private_ip == address and instance.state != "terminated":
                raise Refusal("InvalidIPAddress.InUse", f"Address {address} is in use.")


def parse_mappings(self):
    """As they were given: moto's own fills in what the image should."""
    mappings = copy.deepcopy(self._get_param("BlockDeviceMappings", []) or [])
    for mapping in mappings:
        rate = mapping.setdefault("Ebs", {}).get("VolumeInitializationRate")
        if rate is not None and not 100 <= int(rate) <= 300:
            raise Refusal("InvalidParameterValue", "VolumeInitializationRate must be 100 to 300 MiB/s")
    return mappings


def merged_disks(backend, image, overrides):
    """The image's mapping with what RunInstances says otherwise."""
    disks = {disk["DeviceName"]: copy.deepcopy(disk) for disk in image.lab_disks}
    for override in overrides or []:
        if "NoDevice" in override:
            disks.pop(override["DeviceName"], None)
            continue
        disk = disks.setdefault(override["DeviceName"], {"DeviceName": override["DeviceName"], "Ebs": {}})
        disk["Ebs"].update({name: value for name, value in override["Ebs"].items() if value is not None})
    for disk in disks.values():
        snapshot, size = backend.snapshots.get(disk["Ebs"].get("SnapshotId")), disk["Ebs"].get("VolumeSize")
        if not snapshot and not size:
            raise Refusal("MissingParameter", "The request must contain the parameter size or snapshotId")
        if snapshot and int(size or snapshot.volume.size) < snapshot.volume.size:
            raise Refusal("InvalidBlockDeviceMapping",
                          f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', expect size >= "
                          f"{snapshot.volume.size}GB")
    return list(disks.values())


def check_idempotent(known, request):
    before, reservation = known
    if before != request:
        raise Refusal("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with "
                                                     "arguments used in previous request(s).")
    return reservation


def place(backend, rest):
    """Makes sure that there is a subnet, the zone's default one unless it is named; returns the zone."""
    nics = rest.get("nics") or []
    subnet_id = rest.get("subnet_id") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
    if not subnet_id:
        zone = rest.get("placement") or backend.region_name + "a"
        subnet = backend.get_default_subnets().get(zone)
        if not subnet:
            raise Refusal("MissingInput", f"No subnets found for the default VPC in '{zone}'. Please specify a subnet.")
        subnet_id = subnet.id
        if not nics:
            rest["subnet_id"] = subnet_id
    address = rest.get("private_ip") or next((nic["PrivateIpAddress"] for nic in nics if "PrivateIpAddress" in nic),
                                             None)
    if address:
        check_private_ip(backend, address, subnet_id)
    return backend.get_subnet(subnet_id).availability_zone


def check_groups(backend, rest):
    named = [group for nic in rest.get("nics") or [] for group in nic.get("Groups") or []]
    for group_id in [*(rest.get("security_group_ids") or []), *named]:
        if isinstance(group_id, str) and not backend.get_security_group_from_id(group_id):
            raise Refusal("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")


def strict_run_instances(plain, capacity):
    def run_instances(self, image_id, count, user_data, security_group_names, **rest):
        token = None if rest.get("client_token") == NO_TOKEN else rest.get("client_token")
        started = self.__dict__.setdefault("lab_started", {})
        request = repr((image_id, count, str(user_data), security_group_names, sorted(rest.items())))
        if token and token in started:
            return check_idempotent(started[token], request)
        if not image_id and not rest.get("launch_template"):
            raise Refusal("MissingParameter", "The request must contain the parameter ImageId")
        image = self.amis.get(image_id)
        if getattr(image, "lab_disks", None):
            rest["block_device_mappings"] = merged_disks(self, image, rest.get("block_device_mappings"))
        zone = place(self, rest)
        check_groups(self, rest)
        capacity.check(self, image, rest.get("instance_type", "m1.small"), zone, count)
        if rest.get("key_name") and rest["key_name"] not in self.key_pairs:
            raise Refusal("InvalidKeyPair.NotFound", f"The key pair '{rest['key_name']}' does not exist")
        reservation = plain(self, image_id, count, user_data, security_group_names, **rest)
        if token:
            started[token] = (request, reservation)
        return reservation
    return run_instances


def strict_terminate(plain):
    def terminate(self):
        """moto keeps the address for ever."""
        before = plain(self)
        for nic in self.nics.values():
            nic.subnet.del_subnet_ip(nic.private_ip_address)
        self._private_ips.clear()
        return before
    return terminate


def strict_create_volume(plain):
    def create_volume(self, size, zone_name, snapshot_id=None, **rest):
        snapshot = self.snapshots.get(snapshot_id)
        if snapshot and size is not None and int(size) < snapshot.volume.size:
            raise Refusal("InvalidParameterValue", f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', "
                                                   f"expect size >= {snapshot.volume.size}GB")
        if snapshot and snapshot.status != "completed":
            raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}")
        return plain(self, size, zone_name, snapshot_id, **rest)
    return create_volume


def strict_delete_group(plain):
    def delete_security_group(self, name=None, group_id=None):
        group = self.get_security_group_from_id(group_id) if group_id else None
        users = [instance for reservation in self.reservations.values() for instance in reservation.instances
                 if instance.state != "terminated" and group in instance.nics[0].group_set]
        if group and users:
            raise Refusal("DependencyViolation", f"resource {group_id} has a dependent object")
        if group and group.name == "default":
            raise Refusal("CannotDelete", f"the specified group: \"{group_id}\" name: \"default\" cannot be deleted "
                                          "by a user")
        return plain(self, name, group_id)
    return delete_security_group


def make_snapshot_in(region):
    """make_ec2_snapshot(size_gib, description, tags) for EbsDirect: an id that EC2 knows, too."""
    def make_ec2_snapshot(size_gib, description, tags):
        backend = ec2_backends[ACCOUNT][region]
        volume = backend.create_volume(size=size_gib, zone_name=region + "a")
        snapshot = backend.create_snapshot(volume_id=volume.id, description=description)
        backend.delete_volume(volume.id)
        snapshot.add_tags(tags)
        return snapshot.id
    return make_ec2_snapshot


def install(folder, region, capacity):
    """Patches moto once for this process; returns the EbsDirect that it shares snapshots with."""
    ebs = EbsDirect(folder, make_snapshot_in(region))
    volume_writes = {}  # volume id -> {index: data}: what a running server wrote, for tests
    ebs.volume_writes = volume_writes

    def state_of(snapshot):
        known = ebs.snapshots.get(snapshot.id)
        return ebs.state(known) if known else "completed"

    snapshot_class = elastic_block_store.Snapshot
    snapshot_class.status = property(state_of, lambda _self, _value: None)
    snapshot_class.progress = property(lambda self: "100%" if self.status == "completed" else "0%")

    AmisResponse.register_image = register_image
    InstanceResponse._parse_block_device_mapping = parse_mappings
    plain_disks = amis.Ami.block_device_mappings.fget
    amis.Ami.block_device_mappings = property(
        lambda self: getattr(self, "lab_disks", None) or plain_disks(self))
    instances.InstanceBackend.run_instances = strict_run_instances(
        instances.InstanceBackend.run_instances, capacity)

    instances.Instance.terminate = strict_terminate(instances.Instance.terminate)
    groups = security_groups.SecurityGroupBackend
    groups.delete_security_group = strict_delete_group(groups.delete_security_group)

    block_store = elastic_block_store.EBSBackend
    block_store.create_volume = strict_create_volume(block_store.create_volume)
    plain_create, plain_delete = block_store.create_snapshot, block_store.delete_snapshot

    def create_snapshot(self, volume_id, *arguments, **rest):
        snapshot = plain_create(self, volume_id, *arguments, **rest)
        source = ebs.snapshots.get(getattr(self.volumes.get(volume_id), "snapshot_id", None))
        if source or volume_id in volume_writes:
            ebs.add_completed(snapshot.id, snapshot.volume.size, source, volume_writes.get(volume_id, {}))
        return snapshot

    def delete_snapshot(self, snapshot_id):
        for image in ec2_backends[ACCOUNT][region].amis.values():
            if any(disk["Ebs"].get("SnapshotId") == snapshot_id for disk in getattr(image, "lab_disks", [])):
                raise Refusal("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is in use by {image.id}")
        ebs.remove(snapshot_id)
        return plain_delete(self, snapshot_id)

    block_store.create_snapshot, block_store.delete_snapshot = create_snapshot, delete_snapshot
    return ebs
