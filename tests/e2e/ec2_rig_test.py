#!/usr/bin/env python3
"""The stand-in for EC2 (tests/rigs/ec2) really boots: a server's standby runs as an instance there, and
addresses, security groups, metadata, snapshots, stops and ends are what they are in EC2. So are imports,
quotas, capacity and outages, which moto alone does not know.

time-limit: 900
"""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.parse

import lib
from ec2_rig import AwsError, Ec2Rig, InstanceOffice, cannot_boot
from lib import check, check_equal, wait_until

USER_DATA = "#!/bin/sh\n# for the recovered server: Öztürk\n"
SUBNET = "172.31.16.0/20"
PRIVATE_IP = "172.31.16.77"
BLOCK_BYTES = 512 * 1024

if why_not := cannot_boot():
    print(f"SKIP ec2rig: {why_not}")
    raise SystemExit(0)
story = lib.Story("ec2rig")
rig = Ec2Rig(story, boots=True, buckets=["imports"])
reclo = story.reclo(env=rig.env)
state = {}


def refused(code, method, **parameters):
    try:
        rig.ec2(method, **parameters)
    except AwsError as error:
        check_equal(error.code, code, f"{method} refused with")
        return
    raise lib.Failed(f"{method} was not refused")


def run_parameters(**more):
    return {"ImageId": state["image"], "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small",
            "SubnetId": state["subnet"], "SecurityGroupIds": [state["group"]], "PrivateIpAddress": PRIVATE_IP,
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeInitializationRate": 300}}],
            "KeyName": "operator", "UserData": USER_DATA, "ClientToken": "failover-1",
            "TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "server", "Value": "frontdesk"}]}
                                  for kind in ("instance", "volume")], **more}


def office():
    return InstanceOffice(rig.instance(state["id"])["PublicIpAddress"])


def metadata(path):
    answer = office().get("/cgi-bin/metadata?" + urllib.parse.quote(path))
    check(answer.startswith("ok\n"), f"the metadata service answered {answer!r} to {path}")
    return answer.removeprefix("ok\n")


def volume():
    return rig.instance(state["id"])["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]


@story.step
def a_servers_standby_is_an_image():
    disk = story.make_server("tiny")
    reclo.init()
    state["point"] = reclo.backup("frontdesk", disk)
    report = reclo.json("standby", "refresh", "--no-prepare", "--server", "frontdesk")
    state["image"], state["snapshot"] = report["image"], report["disks"][0]["snapshot"]


def import_of(key, kind="VHD", **more):
    container = {"Format": kind, "UserBucket": {"S3Bucket": "imports", "S3Key": key}}
    return rig.ec2("import_snapshot", DiskContainer=container, **more)["ImportTaskId"]


def vhd_of(raw, vhd):
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, vhd], check=True)
    return vhd.read_bytes()


def import_detail(task):
    told = rig.ec2("describe_import_snapshot_tasks", ImportTaskIds=[task])["ImportSnapshotTasks"][0]
    return told["SnapshotTaskDetail"]


def import_end(task):
    return wait_until(lambda: (detail := import_detail(task))["Status"] != "active" and detail, 60, f"{task} ended")


@story.step
def an_object_in_s3_becomes_a_snapshot():
    raw, vhd = story.folder / "import.raw", story.folder / "import.vhd"
    raw.write_bytes(b"first" * 1000 + bytes(3 << 20) + b"last" * 1000)
    os.truncate(raw, 5 << 20)
    for key, body in (("disk.vhd", vhd_of(raw, vhd)), ("disk.raw", raw.read_bytes()), ("junk", b"junk" * 4096)):
        rig.put_object("imports", key, body)
    try:
        import_of("disk.vhd")
        raise lib.Failed("imported without the role vmimport")
    except AwsError as error:
        check_equal((error.code, "vmimport" in error.message), ("InvalidParameter", True), "the refusal")
    rig.lab("POST", "/lab/role/vmimport")
    task = import_of("disk.vhd", ClientToken="one")
    check_equal(import_of("disk.vhd", ClientToken="one"), task, "the task of the same token")
    check_equal(import_detail(task)["Status"], "active", "status at first")
    for started in (task, import_of("disk.raw", "RAW")):
        snapshot = import_end(started)["SnapshotId"]
        rig.read_snapshot(snapshot, story.folder / "imported.raw", raw.stat().st_size)
        check((story.folder / "imported.raw").read_bytes() == raw.read_bytes(), "it is not what was imported")
        blocks = rig.aws("ebs", "list_snapshot_blocks", SnapshotId=snapshot)["Blocks"]
        check_equal([block["BlockIndex"] for block in blocks], [0, 6], "blocks with data")
    os.truncate(raw, (1 << 30) + 512)
    rig.put_object("imports", "big.vhd", vhd_of(raw, vhd))
    state["two_gib"] = import_end(import_of("big.vhd"))["SnapshotId"]
    check_equal(rig.ec2("describe_snapshots", SnapshotIds=[state["two_gib"]])["Snapshots"][0]["VolumeSize"], 2,
                "GiB of a little more than one")
    cancelled = import_of("disk.raw", "RAW")
    rig.ec2("cancel_import_task", ImportTaskId=cancelled)
    check_equal(import_end(cancelled).get("SnapshotId"), None, "the snapshot of a cancelled task")
    for key in ("junk", "absent"):
        ended = import_end(import_of(key))
        check_equal((ended["Status"], "ClientError" in ended["StatusMessage"]), ("deleted", True), f"end of {key}")


@story.step
def what_an_account_lacks_is_refused_as_aws_words_it():
    state["subnet"] = rig.ec2("describe_subnets", Filters=[{"Name": "cidr-block", "Values": [SUBNET]}])[
        "Subnets"][0]["SubnetId"]
    plain = {"ImageId": state["image"], "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small",
             "SubnetId": state["subnet"]}
    small = [{"DeviceName": "/dev/xvdb", "Ebs": {}}]
    refused("MissingParameter", "run_instances", **plain, BlockDeviceMappings=small)
    zone = rig.ec2("describe_subnets", SubnetIds=[state["subnet"]])["Subnets"][0]["AvailabilityZone"]
    for address in ("172.31.16.1", "10.0.0.5"):
        refused("InvalidParameterValue", "run_instances", **plain, PrivateIpAddress=address)
    refused("InvalidSubnetID.NotFound", "run_instances", **{**plain, "SubnetId": "subnet-0123456789abcdef0"})
    refused("InvalidGroup.NotFound", "run_instances", **plain, SecurityGroupIds=["sg-0123456789abcdef0"])
    refused("InvalidKeyPair.NotFound", "run_instances", **plain, KeyName="nobody")
    refused("InvalidInstanceType.NotFound", "run_instances", **{**plain, "InstanceType": "t3.none"})
    refused("InvalidParameterValue", "run_instances", **{**plain, "InstanceType": "m6g.large"})
    rig.lab("POST", "/lab/without", [["t3.small", zone]])
    refused("InsufficientInstanceCapacity", "run_instances", **plain)
    rig.lab("POST", "/lab/without", [])
    quota = rig.aws("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]
    check_equal(quota["Value"], 32.0, "quota")
    rig.lab("POST", "/lab/quota", {"L-1216C47A": 1})
    refused("VcpuLimitExceeded", "run_instances", **plain)
    rig.lab("POST", "/lab/quota", {"L-1216C47A": 32})
    check_equal(rig.instances(), [], "instances of what was refused")


@story.step
def services_can_be_cut_off_and_slow():
    for mode, secs in (("reset", 60), ("blackhole", 1.5)):
        rig.lab("POST", "/lab/cut", {"service": "ebs", "mode": mode, "secs": secs})
        started = time.monotonic()
        try:
            rig.aws("ebs", "list_snapshot_blocks", SnapshotId=state["snapshot"])
            raise lib.Failed("EBS answered while it was cut off")
        except AwsError as error:
            check_equal(error.code, "ConnectionClosedError", "what a cut looks like")
        check(mode == "reset" or time.monotonic() - started > 1, "a black hole answered at once")
        rig.ec2("describe_images", Owners=["self"])
        rig.lab("POST", "/lab/cut", {"service": "ebs", "mode": mode, "secs": 0})
        rig.aws("ebs", "list_snapshot_blocks", SnapshotId=state["snapshot"])
    rig.lab("POST", "/lab/latency", {"on": True, "scale": 10})
    started = time.monotonic()
    rig.ec2("describe_images", Owners=["self"])
    check(time.monotonic() - started >= 1.5, "it was not slow")
    rig.lab("POST", "/lab/latency", {"on": False})


@story.step
def it_runs_and_answers_at_its_public_address():
    state["group"] = rig.ec2("create_security_group", GroupName="office", Description="office")["GroupId"]
    rig.ec2("authorize_security_group_ingress", GroupId=state["group"], IpProtocol="tcp", FromPort=80, ToPort=80,
            CidrIp="127.0.0.0/8")
    state["key"] = rig.ec2("create_key_pair", KeyName="operator", KeyType="ed25519")["KeyFingerprint"]
    launched = rig.ec2("run_instances", **run_parameters())["Instances"][0]
    check_equal(launched["State"]["Name"], "pending", "state at first")
    state["id"] = launched["InstanceId"]
    running = rig.wait_state(state["id"], "running")
    check_equal(running["PrivateIpAddress"], PRIVATE_IP, "private address")
    office().wait()
    check("Hillside Family Practice" in office().get("/"), "the page is not the office's")


@story.step
def asked_again_with_its_token_it_is_the_same_instance():
    again = rig.ec2("run_instances", **run_parameters())["Instances"][0]
    check_equal(again["InstanceId"], state["id"], "instance of the same token")
    refused("IdempotentParameterMismatch", "run_instances", **run_parameters(InstanceType="t3.large"))
    refused("InvalidIPAddress.InUse", "run_instances", **run_parameters(ClientToken="other"))
    tagged = rig.ec2("describe_instances", Filters=[{"Name": "tag:server", "Values": ["frontdesk"]}])
    check_equal([one["InstanceId"] for group in tagged["Reservations"] for one in group["Instances"]], [state["id"]],
                "instances of the tag")


@story.step
def the_guest_reads_its_identity_and_user_data():
    check_equal(metadata("meta-data/instance-id").strip(), state["id"], "instance-id")
    check_equal(metadata("meta-data/local-ipv4").strip(), PRIVATE_IP, "local-ipv4")
    check_equal(metadata("user-data"), USER_DATA, "user data")
    check(metadata("meta-data/public-keys/0/openssh-key").startswith("ssh-ed25519 "), "the key pair is not there")
    document = json.loads(metadata("dynamic/instance-identity/document"))
    check_equal((document["instanceId"], document["imageId"]), (state["id"], state["image"]), "identity document")
    without_token = office().get("/cgi-bin/fetch?169.254.169.254/latest/meta-data/instance-id")
    check("401" in without_token, f"IMDSv1, which the image does not allow, answered {without_token!r}")


@story.step
def security_groups_decide_what_comes_in_and_out():
    rule = {"GroupId": state["group"], "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "127.0.0.0/8"}
    rig.ec2("revoke_security_group_ingress", **rule)
    check(office().try_get("/") is None, "it answers through a closed security group")
    check("Hillside" in rig.cable(state["id"]).get("/"), "it does not answer behind its security group either")
    rig.ec2("authorize_security_group_ingress", **{**rule, "CidrIp": "198.51.100.7/32"})
    check(office().try_get("/") is None, "it answers to who was not let in")
    rig.ec2("authorize_security_group_ingress", **rule)
    check("Hillside" in office().get("/"), "it does not answer through an open security group")

    fetch = "/cgi-bin/fetch?169.254.169.250/lab/stats"
    check("requests" in office().get(fetch), "the guest cannot reach AWS")
    out = rig.ec2("describe_security_groups", GroupIds=[state["group"]])["SecurityGroups"][0]["IpPermissionsEgress"]
    rig.ec2("revoke_security_group_egress", GroupId=state["group"], IpPermissions=out)
    check_equal(office().get(fetch), "unreachable\n", "AWS, without egress")
    check_equal(office().get("/cgi-bin/fetch?192.0.2.1/"), "unreachable\n", "the world")
    check_equal(metadata("meta-data/instance-id").strip(), state["id"], "metadata without egress")


@story.step
def a_snapshot_while_it_runs_holds_the_few_blocks_that_changed():
    office().put("09:00 Mrs Alvarez")
    made = rig.ec2("create_snapshot", VolumeId=volume(), Description="failback")["SnapshotId"]
    office().put("09:30 after the snapshot")
    rig.wait_snapshot(made)
    changed = rig.aws("ebs", "list_changed_blocks", FirstSnapshotId=state["snapshot"], SecondSnapshotId=made)
    indices = [block["BlockIndex"] for block in changed["ChangedBlocks"]]
    check(0 < len(indices) < 60, f"{len(indices)} blocks changed: {indices}")
    holds = b""
    for block in changed["ChangedBlocks"]:
        got = rig.aws("ebs", "get_snapshot_block", SnapshotId=made, BlockIndex=block["BlockIndex"],
                      BlockToken=block["SecondBlockToken"])
        holds += base64.b64decode(got["BlockData"])
    check(b"Mrs Alvarez" in holds, "the row is not in what changed")
    check(b"after the snapshot" not in holds, "a later row is in the snapshot")
    state["later"] = made


@story.step
def the_next_snapshot_is_a_child_of_the_last_one():
    made = rig.ec2("create_snapshots", InstanceSpecification={"InstanceId": state["id"]})["Snapshots"][0]["SnapshotId"]
    rig.wait_snapshot(made)
    for first in (state["later"], state["snapshot"]):
        changed = rig.aws("ebs", "list_changed_blocks", FirstSnapshotId=first, SecondSnapshotId=made)
        check(0 < len(changed["ChangedBlocks"]) < 60, f"{len(changed['ChangedBlocks'])} blocks changed since {first}")


@story.step
def console_and_screenshot_are_there():
    text = rig.ec2("get_console_output", InstanceId=state["id"])["Output"]  # boto3 has decoded it
    check("SERVER-UP frontdesk boot 1" in text, f"the console says {text[-300:]!r}")
    check(rig.screenshot(state["id"]).startswith(b"\x89PNG"), "no screenshot")
    check(len(rig.ec2("get_console_screenshot", InstanceId=state["id"])["ImageData"]) > 1000, "no console screenshot")


@story.step
def stopped_by_its_power_button_it_starts_with_what_it_wrote():
    rows, address = office().rows(), rig.instance(state["id"])["PublicIpAddress"]
    rig.ec2("stop_instances", InstanceIds=[state["id"]])
    stopped = rig.wait_state(state["id"], "stopped")
    check("User initiated" in stopped["StateTransitionReason"], f"reason {stopped['StateTransitionReason']!r}")
    check("PublicIpAddress" not in stopped, "a stopped instance has a public address")
    check(InstanceOffice(address).try_get("/") is None, "a stopped instance answers")
    refused("InvalidIPAddress.InUse", "run_instances", **run_parameters(ClientToken="other"))
    rig.ec2("start_instances", InstanceIds=[state["id"]])
    running = rig.wait_state(state["id"], "running")
    check_equal(running["PrivateIpAddress"], PRIVATE_IP, "private address")
    office().wait()
    check_equal(office().rows(), rows, "rows")
    check_equal(office().get("/boots.html").strip(), "frontdesk boot 2", "boots")


@story.step
def rebooted_it_stays_the_same_machine():
    address = rig.instance(state["id"])["PublicIpAddress"]
    rig.ec2("reboot_instances", InstanceIds=[state["id"]])
    wait_until(lambda: "boot 3" in (office().try_get("/boots.html") or ""), lib.BOOT_LIMIT_S, "the reboot")
    check_equal(rig.instance(state["id"])["PublicIpAddress"], address, "public address")


@story.step
def a_guest_that_shuts_itself_down_is_a_stopped_instance():
    rig.power_off(state["id"])
    stopped = rig.wait_state(state["id"], "stopped")
    check_equal(stopped["StateReason"]["Code"], "Client.InstanceInitiatedShutdown", "why it stopped")
    rig.ec2("start_instances", InstanceIds=[state["id"]])
    rig.wait_state(state["id"], "running")


@story.step
def a_machine_that_dies_is_a_stopped_instance():
    for pid in reclo_machines():
        os.kill(pid, signal.SIGKILL)
    stopped = rig.wait_state(state["id"], "stopped")
    check_equal(stopped["StateReason"]["Code"], "Server.InternalError", "why it stopped")


@story.step
def its_root_can_be_swapped_while_it_is_stopped():
    old, zone = volume(), rig.instance(state["id"])["Placement"]["AvailabilityZone"]
    refused("InvalidParameterValue", "create_volume", SnapshotId=state["two_gib"], Size=1, AvailabilityZone=zone)
    new = rig.ec2("create_volume", SnapshotId=state["later"], AvailabilityZone=zone)["VolumeId"]
    rig.ec2("detach_volume", VolumeId=old)
    rig.ec2("attach_volume", VolumeId=new, InstanceId=state["id"], Device="/dev/xvda")
    rig.ec2("delete_volume", VolumeId=old)
    rig.ec2("start_instances", InstanceIds=[state["id"]])
    rig.wait_state(state["id"], "running")
    office().wait()
    check_equal(office().rows(), ["09:00 Mrs Alvarez"], "rows of the snapshot that was taken in between")
    refused("IncorrectState", "detach_volume", VolumeId=new)
    state["swapped"] = new


@story.step
def uefi_as_the_image_says_and_two_volumes_at_one_instant():
    image = rig.ec2("register_image", Name="frontdesk-uefi", Architecture="x86_64", VirtualizationType="hvm",
                    EnaSupport=True, BootMode="uefi", RootDeviceName="/dev/xvda", BlockDeviceMappings=[
                        {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": state["snapshot"]}}])["ImageId"]
    rig.ec2("stop_instances", InstanceIds=[state["id"]], Force=True)
    rig.wait_state(state["id"], "stopped")
    uefi = run_parameters(
        ImageId=image, ClientToken="uefi", PrivateIpAddress="172.31.16.78",
        InstanceInitiatedShutdownBehavior="terminate",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeInitializationRate": 256}},
                             {"DeviceName": "/dev/xvdb", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": True}}])
    rig.machines(first_touch_mib_s=5)
    made = rig.ec2("run_instances", **uefi)["Instances"][0]["InstanceId"]
    rig.wait_state(made, "running")
    told = [command_of(lib.pathlib.Path(f"/proc/{pid}")).decode() for pid in reclo_machines()]
    check_equal(len(told), 1, "machines")
    check("x-bps-read=268435456" in told[0], "the volume's first touch is not limited as it was asked")
    rig.machines(first_touch_mib_s=0)
    InstanceOffice(rig.instance(made)["PublicIpAddress"]).wait()
    taken = rig.ec2("create_snapshots", InstanceSpecification={"InstanceId": made})["Snapshots"]
    for snapshot in taken:
        rig.wait_snapshot(snapshot["SnapshotId"])
    counts = sorted(len(rig.aws("ebs", "list_snapshot_blocks", SnapshotId=snapshot["SnapshotId"])["Blocks"])
                    for snapshot in taken)
    check(counts[0] == 0 and counts[1] > 30, f"blocks of the snapshots: {counts}")
    rig.power_off(made)
    check_equal(rig.wait_state(made, "terminated")["StateReason"]["Code"], "Client.InstanceInitiatedShutdown",
                "why it was terminated")


@story.step
def terminated_it_leaves_nothing():
    refused("DependencyViolation", "delete_security_group", GroupId=state["group"])
    told = rig.ec2("terminate_instances", InstanceIds=[state["id"]])["TerminatingInstances"][0]
    check_equal(told["CurrentState"]["Name"], "shutting-down", "state at first")
    rig.wait_state(state["id"], "terminated")
    check_equal(reclo_machines(), [], "machines left")
    left = [one["VolumeId"] for one in rig.ec2("describe_volumes")["Volumes"]]
    check_equal(left, [state["swapped"]], "volumes: the one that was attached by hand stays")
    rig.ec2("delete_volume", VolumeId=state["swapped"])
    rig.ec2("delete_security_group", GroupId=state["group"])
    left = [path.name for path in (story.folder / "ec2" / "instances").glob("vol-*")]
    check_equal(left, [], "volumes on the disk")


@story.step
def killed_it_takes_its_machines_with_it():
    group = rig.ec2("create_security_group", GroupName="other", Description="other")["GroupId"]
    made = rig.ec2("run_instances", **run_parameters(SecurityGroupIds=[group], ClientToken="last"))
    rig.wait_state(made["Instances"][0]["InstanceId"], "running")
    check(reclo_machines() != [], "no machine runs")
    rig.process.kill()
    wait_until(lambda: not reclo_machines(), 30, "the end of the machines")


def reclo_machines():
    """The process ids of this rig's machines."""
    return [pid for pid in reclo.processes("qemu-system")] + [
        int(entry.name) for entry in lib.pathlib.Path("/proc").iterdir()
        if entry.name.isdigit() and str(story.folder).encode() in command_of(entry)
        and b"qemu-system" in command_of(entry)]


def command_of(entry):
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


story.run()
