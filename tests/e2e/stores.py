"""S3 servers for the end-to-end suites, on loopback: moto behind a strict front, and Ceph's gateway."""

import os
import re
import subprocess
import time

from lib import ROOT, check

RIGS = ROOT / "tests" / "rigs"
BUCKET = "reclo-e2e"
START_LIMIT_S = 60


class S3Server:
    """A running S3 server; `env` and `flags` are what reclo needs to reach it."""

    def __init__(self, endpoint, access_key, secret_key):
        self.repo = f"s3://{BUCKET}/office/site1"
        self.env = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key,
                    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
                    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "RECLO_S3_ENDPOINT": endpoint}
        self.options = ["--s3-path-style", "--s3-region", "us-east-1"]
        self.endpoint = endpoint


def rig_python():
    """The python of the tests' environment, which has moto and boto3."""
    return subprocess.run([RIGS / "venv.sh"], check=True, capture_output=True, text=True).stdout.strip()


def start_moto(story):
    access_key, secret_key = "AKIARECLOTEST0000001", "reclo/test+secret/0000000000000000000"
    log_path = story.folder / "moto.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [rig_python(), RIGS / "moto_s3.py", "--access-key", access_key, "--secret-key", secret_key,
             "--bucket", BUCKET], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    story.later(lambda: (process.kill(), process.wait()))
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        ready = re.search(r"^ready (\S+)$", log_path.read_text(), re.MULTILINE)
        if ready:
            return S3Server(ready.group(1), access_key, secret_key)
        check(process.poll() is None and time.monotonic() < deadline,
              f"moto did not start: {log_path.read_text()[-500:]}")
        time.sleep(0.1)


def start_rgw(story):
    env = dict(os.environ, RGW_DIR=str(story.folder / "rgw"))
    story.later(lambda: subprocess.run([RIGS / "rgw.sh", "destroy"], env=env, check=False))
    started = subprocess.run([RIGS / "rgw.sh", "start"], env=env, check=False, capture_output=True, text=True)
    check(started.returncode == 0, f"Ceph did not start: {started.stderr[-500:]}")
    told = subprocess.run([RIGS / "rgw.sh", "env"], env=env, check=True, capture_output=True, text=True).stdout
    values = dict(re.findall(r"(\w+)='?([^'\s]+)'?", told))
    server = S3Server(values["RECLO_TEST_S3_ENDPOINT"], values["AWS_ACCESS_KEY_ID"],
                      values["AWS_SECRET_ACCESS_KEY"])
    subprocess.run([rig_python(), RIGS / "make_bucket.py", server.endpoint, BUCKET],
                   env={**os.environ, **server.env}, check=True)
    return server
