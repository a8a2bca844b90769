"""The stand-in for EC2 and EBS (tests/rigs/ec2) for the end-to-end suites, on loopback."""

import base64
import json
import os
import re
import subprocess
import time
import urllib.request

from lib import Office, check, wait_until
from stores import RIGS, START_LIMIT_S, rig_python

ACCESS_KEY, SECRET_KEY = "AKIARECLOTEST0000001", "reclo/test+secret/0000000000000000000"
STATE_LIMIT_S = 300
STOP_LIMIT_S = 20


def cannot_boot():
    """Why the stand-in's instances cannot be machines here, or ""."""
    if os.geteuid() != 0:
        return "the stand-in's machines have network namespaces, which takes root"
    return "" if os.path.exists("/dev/net/tun") else "the stand-in's machines need /dev/net/tun"


class AwsError(Exception):
    """What AWS's client was refused with; `code` is AWS's."""

    def __init__(self, code, message, status):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class InstanceOffice(Office):
    """The sample server's face at an instance's public address."""

    def __init__(self, address, port=80):
        super().__init__(port)
        self.url = f"http://{address}:{port}"


class Ec2Rig:
    """A running stand-in; `env` is what reclo needs to reach it. With boots=True its instances are machines:
    that takes root, and 512 MiB of memory for each that runs (`machines()` sets that and more)."""

    def __init__(self, story, boots=False, buckets=(), region="us-east-1"):
        self.region, self.story, self.caller = region, story, None
        log_path, folder = story.folder / "ec2.log", story.folder / "ec2"
        folder.mkdir()
        options = ["--folder", folder, "--region", region, *(["--boot"] if boots else [])]
        for bucket in buckets:
            options += ["--bucket", bucket]
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [rig_python(), RIGS / "ec2/server.py", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY,
                 *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.process = process
        story.later(self.stop)
        deadline = time.monotonic() + START_LIMIT_S
        while not (ready := re.search(r"^ready (\S+)$", log_path.read_text(), re.MULTILINE)):
            check(process.poll() is None and time.monotonic() < deadline,
                  f"the EC2 stand-in did not start: {log_path.read_text()[-500:]}")
            time.sleep(0.1)
        self.endpoint = ready.group(1)
        self.env = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
                    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_REGION": region,
                    "RECLO_EC2_ENDPOINT": self.endpoint, "RECLO_EBS_ENDPOINT": self.endpoint,
                    "RECLO_STS_ENDPOINT": self.endpoint, "RECLO_QUOTAS_ENDPOINT": self.endpoint}

    def stop(self):
        """Ends it, and every machine that it runs with it."""
        if self.caller:
            self.caller.kill()
            self.caller.wait()
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def lab_bytes(self, method, path, body=b""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data=data or None, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def lab(self, method, path, body=b""):
        return json.loads(self.lab_bytes(method, path, body))

    def faults(self, *faults):
        self.lab("POST", "/lab/fault", [])
        if faults:
            self.lab("POST", "/lab/fault", list(faults))

    def inventory(self):
        """{"images": [...], "snapshots": [...]}: what the account holds."""
        return self.lab("GET", "/lab/inventory")

    def remove_snapshot(self, snapshot):
        """Somebody else deletes a standby, its image first."""
        self.lab("POST", f"/lab/remove-snapshot/{snapshot}")

    def read_snapshot(self, snapshot, path, size_bytes):
        """What a volume made from the snapshot would hold."""
        self.lab("POST", f"/lab/export/{snapshot}", {"path": str(path), "size_bytes": size_bytes})

    # ---- AWS's own client, for what a test does beside reclo

    def aws(self, service, method, **parameters):
        """One call as boto3 names it; raises AwsError."""
        if not self.caller:
            self.caller = subprocess.Popen([rig_python(), RIGS / "ec2/caller.py", self.endpoint, self.region],
                                           env={**os.environ, **self.env}, stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, text=True)
        self.caller.stdin.write(json.dumps({"service": service, "method": method, "parameters": parameters}) + "\n")
        self.caller.stdin.flush()
        told = json.loads(self.caller.stdout.readline())
        if "error" in told:
            raise AwsError(**told["error"])
        return told["answer"]

    def ec2(self, method, **parameters):
        return self.aws("ec2", method, **parameters)

    def put_object(self, bucket, key, body):
        self.aws("s3", "put_object", Bucket=bucket, Key=key, Body={"base64": base64.b64encode(body).decode()})

    def instance(self, instance_id):
        return self.ec2("describe_instances", InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def instances(self, *states):
        """The account's instances, of these states only when any are named."""
        filters = [{"Name": "instance-state-name", "Values": list(states)}] if states else []
        told = self.ec2("describe_instances", Filters=filters)
        return [instance for reservation in told["Reservations"] for instance in reservation["Instances"]]

    def wait_state(self, instance_id, state, limit_s=STATE_LIMIT_S):
        """Waits until EC2 says so; returns the instance."""
        def look():
            instance = self.instance(instance_id)
            check(state != "running" or instance.get("StateReason", {}).get("Code") != "Server.InternalError",
                  f"{instance_id} could not run: see ec2.log and its qemu.log")
            return instance if instance["State"]["Name"] == state else None
        return wait_until(look, limit_s, f"{instance_id} {state}")

    def wait_snapshot(self, snapshot_id, limit_s=STATE_LIMIT_S):
        def look():
            told = self.ec2("describe_snapshots", SnapshotIds=[snapshot_id])["Snapshots"][0]
            check(told["State"] != "error", f"{snapshot_id} ended in an error")
            return told["State"] == "completed"
        wait_until(look, limit_s, f"{snapshot_id} completed")

    # ---- the machines behind instances

    def machines(self, **settings):
        """memory_cap_mib, vcpus_cap, stop_grace_s, launch_s, operator: tests/rigs/ec2/server.py."""
        self.lab("POST", "/lab/boot", settings)

    def console(self, instance_id):
        return self.lab_bytes("GET", f"/lab/console/{instance_id}").decode(errors="replace")

    def screenshot(self, instance_id):
        """PNG"""
        return self.lab_bytes("GET", f"/lab/screenshot/{instance_id}")

    def cable(self, instance_id, port=80):
        """A way to a guest past its security groups, to see what it does behind them."""
        told = self.lab("POST", f"/lab/cable/{instance_id}/{port}")
        return InstanceOffice(told["address"], told["port"])

    def power_off(self, instance_id):
        """The guest shuts itself down, which nobody asked EC2 for."""
        self.lab("POST", f"/lab/power-off/{instance_id}")

    def metadata_log(self, instance_id):
        return self.lab("GET", f"/lab/metadata/{instance_id}")
