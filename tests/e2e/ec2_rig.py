"""The stand-in for EC2 and EBS (tests/rigs/ec2) for the end-to-end suites, on loopback."""

import json
import re
import subprocess
import time
import urllib.request

from lib import check
from stores import RIGS, START_LIMIT_S, rig_python

ACCESS_KEY, SECRET_KEY = "AKIARECLOTEST0000001", "reclo/test+secret/0000000000000000000"


class Ec2Rig:
    """A running stand-in; `env` is what reclo needs to reach it."""

    def __init__(self, story):
        log_path = story.folder / "ec2.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [rig_python(), RIGS / "ec2/server.py", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        story.later(lambda: (process.kill(), process.wait()))
        deadline = time.monotonic() + START_LIMIT_S
        while not (ready := re.search(r"^ready (\S+)$", log_path.read_text(), re.MULTILINE)):
            check(process.poll() is None and time.monotonic() < deadline,
                  f"the EC2 stand-in did not start: {log_path.read_text()[-500:]}")
            time.sleep(0.1)
        self.endpoint = ready.group(1)
        self.env = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
                    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_REGION": "us-east-1",
                    "RECLO_EC2_ENDPOINT": self.endpoint, "RECLO_EBS_ENDPOINT": self.endpoint,
                    "RECLO_STS_ENDPOINT": self.endpoint}

    def lab(self, method, path, body=b""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data=data or None, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

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
