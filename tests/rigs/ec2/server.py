#!/usr/bin/env python3
"""A stand-in for EC2, EBS direct, STS, IAM, Service Quotas and S3 that is as strict as AWS and fails on request.

    server.py --access-key AK --secret-key SK [--port 0] [--region us-east-1] [--bucket NAME]... [--folder DIR]
              [--boot]

Prints "ready http://127.0.0.1:PORT". moto gives the breadth; ebs_direct.py and ec2_strict.py what a
recovery leans on; ../moto_s3.py the front with signatures, faults (its help tells) and a log. A fault's
`match` for EC2, STS and IAM is on "POST / Action", and there are more modes:

                      throttle         the service's own word for it
                      capacity         EC2: InsufficientInstanceCapacity
                      quota            EC2: VcpuLimitExceeded
                      denied           the service's own word for it
    POST /lab/ebs     {"complete_s": 0.3, "visible_after_s": 0, "page_max": 10000}, any of them
    PUT  /lab/volume/VOL/INDEX   a block that the running server writes
    POST /lab/fail-snapshot/SNAP the snapshot ends in "error"
    GET  /lab/inventory          what the account holds: {"images": [...], "snapshots": [...]}
    POST /lab/remove-snapshot/SNAP  somebody deletes it, and the images made of it
    POST /lab/quota              {"L-1216C47A": 32}: vCPUs of running on-demand standard instances
    POST /lab/without            [["t3.small", "us-east-1a"], ["*", "us-east-1b"]]: types that a zone has not
    POST /lab/imports            {"secs": 2}: how long ImportSnapshot takes
    POST /lab/latency            {"on": true, "scale": 1.0}: take as long as AWS does (latency.py), or scale times it
    POST /lab/cut                {"service": "ec2", "mode": "reset" or "blackhole", "secs": 10}: no way to a service
                                 ("" is all of them), from now on
    POST /lab/role/vmimport      makes the service role, or any other that vmie.amazonaws.com may assume
  with --boot, which makes instances real machines (fleet.py; needs root):
    POST /lab/boot               {"memory_cap_mib": 512, "vcpus_cap": 1, "stop_grace_s": 120, "launch_s": 0,
                                 "operator": "127.0.0.1", "first_touch_mib_s": 0}, any of them; operator: whom
                                 security groups must admit; first touch: of a new volume, 0 for no limit
    GET  /lab/console/INSTANCE   the serial console's text; GET /lab/screenshot/INSTANCE the screen as PNG,
                                 both also of what has ended
    POST /lab/power-off/INSTANCE the guest shuts itself down
    POST /lab/cable/INSTANCE/PORT {"address", "port"}: a way to a guest's port past its security groups
    GET  /lab/metadata/INSTANCE  what the guest asked the metadata service for
  and always:
    POST /lab/export/SNAP        {"path", "size_bytes"}: the snapshot as a sparse raw file
"""

import argparse
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

for name in ("ENABLE_AMI", "EC2_ENABLE_INSTANCE_TYPE"):
    os.environ.setdefault(f"MOTO_{name}_VALIDATION", "true")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import boot
import ec2_strict
import imports
import moto_s3
from capacity import Capacity, QuotaError
from ebs_direct import EbsError
from fleet import Fleet
from latency import Latency
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

# A fault's words in each service's own language: (status, code, message).
WORDS = {
    "throttle": {"ebs": (400, "RequestThrottledException", "Rate exceeded"),
                 "ec2": (503, "RequestLimitExceeded", "Request limit exceeded."),
                 "servicequotas": (400, "TooManyRequestsException", "Rate exceeded"),
                 "s3": (503, "SlowDown", "Please reduce your request rate.")},
    "capacity": {"ec2": (500, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity.")},
    "quota": {"ec2": (400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit")},
    "denied": {"ebs": (403, "AccessDeniedException", "User is not authorized to perform this operation"),
               "ec2": (403, "UnauthorizedOperation", "You are not authorized to perform this operation."),
               "servicequotas": (400, "AccessDeniedException", "User is not authorized to perform this operation"),
               "sts": (403, "AccessDenied", "User is not authorized to perform this operation")},
    "expired": {"ebs": (403, "ExpiredTokenException", "The security token included in the request is expired"),
                "ec2": (400, "RequestExpired", "Request has expired."),
                "sts": (403, "ExpiredToken", "The security token included in the request is expired")},
}


class Front(moto_s3.Front):
    def log_line(self, body):
        if self.service == "servicequotas":
            return f"{self.command} {self.path} {self.headers.get('x-amz-target', '?').split('.')[-1]}"
        if self.service not in ("ec2", "sts", "iam"):
            return super().log_line(body)
        action = parse_qs(body.decode("latin1")).get("Action", ["?"])[0]
        return f"{self.command} {self.path} {action}"

    def fails_before(self, mode, fault):
        if cut := self.server.lab.cut_of(self.service):
            if cut[0] == "blackhole":
                time.sleep(max(0.0, cut[1] - time.monotonic()))  # what was sent is lost: the connection never answers
            self.reset()
            return True
        words = WORDS.get(mode, {}).get(self.service)
        if words:
            self.refuse(*words)
            return True
        return super().fails_before(mode, fault)

    def dispatch(self, headers, body):
        self.server.lab.latency.wait(self.service, self.command, self.path, body)
        if self.service == "servicequotas":
            return self.quotas(headers, body)
        if self.service != "ebs":
            status, extra, content = super().dispatch(headers, body)
            if self.server.lab.fleet and self.service == "ec2":
                with self.server.moto.lock:
                    self.server.lab.fleet.refresh_forwards()
            if status == 400 and b"<Code>InsufficientInstanceCapacity</Code>" in content:
                status = 500  # the one refusal that EC2 counts as its own fault
            return status, extra, content
        try:
            with self.server.moto.lock:
                status, extra, answer = self.server.ebs.call(self.command, self.path, headers, body)
        except EbsError as error:
            text = {"Message": error.message, **({"Reason": error.reason} if error.reason else {})}
            return error.status, [("x-amzn-ErrorType", error.kind)], json.dumps(text).encode()
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return status, extra, content

    def quotas(self, headers, body):
        kind = [("Content-Type", "application/x-amz-json-1.1")]
        try:
            answer = self.server.lab.capacity.quota_request(headers.get("x-amz-target", ""), body)
            return 200, kind, json.dumps(answer).encode()
        except QuotaError as error:
            return 400, kind, json.dumps({"__type": error.kind, "message": error.message}).encode()

    def refuse(self, status, code, message):
        if self.service == "servicequotas":
            code = {"SignatureDoesNotMatch": "InvalidSignatureException", "InvalidAccessKeyId":
                    "UnrecognizedClientException", "InternalError": "ServiceException"}.get(code, code)
            self.answer(status, [("Content-Type", "application/x-amz-json-1.1")],
                        json.dumps({"__type": code, "message": message}).encode())
        elif self.service == "ebs":
            # The signature's errors have names of their own outside of S3.
            code = {"SignatureDoesNotMatch": "InvalidSignatureException", "RequestTimeTooSkewed":
                    "InvalidSignatureException", "InvalidAccessKeyId": "UnrecognizedClientException",
                    "InternalError": "InternalServerException"}.get(code, code)
            self.answer(status, [("x-amzn-ErrorType", code)], json.dumps({"Message": message}).encode())
        elif self.service in ("ec2", "sts", "iam"):
            code = {"RequestTimeTooSkewed": "RequestExpired", "SignatureDoesNotMatch": "AuthFailure",
                    "InvalidAccessKeyId": "AuthFailure"}.get(code, code) if self.service == "ec2" else code
            error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            xml = (f"<Response><Errors>{error}</Errors><RequestID>lab</RequestID></Response>"
                   if self.service == "ec2" else
                   f"<ErrorResponse>{error}<RequestId>lab</RequestId></ErrorResponse>")
            self.answer(status, [("Content-Type", "text/xml")], (moto_s3.XML_HEAD + xml).encode())
        else:
            super().refuse(status, code, message)


class Lab(moto_s3.Lab):
    def __init__(self, region, ebs, capacity, imported):
        super().__init__()
        self.region, self.ebs, self.capacity, self.imports = region, ebs, capacity, imported
        self.fleet, self.latency, self.cuts = None, Latency(), {}

    def command(self, method, path, body):
        if self.fleet and (answer := self.fleet_command(method, path, body)) is not None:
            return answer
        if (method, path) == ("POST", "/lab/ebs"):
            for name, value in json.loads(body).items():
                setattr(self.ebs, name, value)
            return {}
        if (method, path) == ("POST", "/lab/quota"):
            self.capacity.quotas.update({name: float(value) for name, value in json.loads(body).items()})
            return {}
        if (method, path) == ("POST", "/lab/without"):
            self.capacity.without = {(kind, zone) for kind, zone in json.loads(body)}
            return {}
        if (method, path) == ("POST", "/lab/latency"):
            self.latency.set(json.loads(body), self.ebs, self.imports, self.fleet)
            return {}
        if (method, path) == ("POST", "/lab/cut"):
            cut = json.loads(body)
            self.cuts[cut["service"]] = (cut["mode"], time.monotonic() + float(cut["secs"]))
            return {}
        if (method, path) == ("POST", "/lab/imports"):
            self.imports.secs = float(json.loads(body)["secs"])
            return {}
        if match := re.fullmatch(r"/lab/role/([\w+=,.@-]+)", path):
            make_import_role(match[1])
            return {}
        if match := re.fullmatch(r"/lab/volume/(vol-[0-9a-f]+)/(\d+)", path):
            self.ebs.volume_writes.setdefault(match[1], {})[int(match[2])] = body
            return {}
        if match := re.fullmatch(r"/lab/fail-snapshot/(snap-[0-9a-f]+)", path):
            self.ebs.snapshots[match[1]].failed = "lab"
            return {}
        if (method, path) == ("GET", "/lab/inventory"):
            return self.inventory()
        if match := re.fullmatch(r"/lab/remove-snapshot/(snap-[0-9a-f]+)", path):
            self.remove_snapshot(match[1])
            return {}
        if match := re.fullmatch(r"/lab/export/(snap-[0-9a-f]+)", path):
            asked = json.loads(body)
            self.ebs.export(match[1], asked["path"], asked["size_bytes"])
            return {}
        return super().command(method, path, body)

    def fleet_command(self, method, path, body):
        if (method, path) == ("POST", "/lab/boot"):
            self.fleet.settings.update(json.loads(body))
            return {}
        match = re.fullmatch(r"/lab/(console|screenshot|metadata|power-off|cable)/(i-[0-9a-f]+)(?:/(\d+))?", path)
        if not match:
            return None
        kind, instance, port = match.groups()
        if kind == "cable":
            return self.fleet.cable(instance, int(port))
        if kind == "power-off":
            return self.fleet.power_off(instance)
        if kind == "metadata":
            return self.fleet.asked(instance)
        return self.fleet.console(instance) if kind == "console" else self.fleet.screenshot(instance)

    def cut_of(self, service):
        """(mode, until) when there is no way to a service at the moment."""
        for name in (service, ""):
            mode, until = self.cuts.get(name, ("", 0.0))
            if time.monotonic() < until:
                return mode, until
        return None

    def backend(self):
        return ec2_strict.ec2_backends[ec2_strict.ACCOUNT][self.region]

    def inventory(self):
        images = [image for image in self.backend().amis.values() if getattr(image, "lab_disks", None)]
        return {"images": sorted(image.id for image in images), "snapshots": sorted(self.ebs.snapshots)}

    def remove_snapshot(self, snapshot_id):
        backend = self.backend()
        for image in list(backend.amis.values()):
            if any(disk["Ebs"].get("SnapshotId") == snapshot_id for disk in getattr(image, "lab_disks", [])):
                backend.amis.pop(image.id)
        backend.delete_snapshot(snapshot_id)


def make_import_role(name):
    """The role that VM Import asks for, with the trust that its guide prescribes."""
    trust = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "vmie.amazonaws.com"}, "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}}}]}
    iam = iam_backends[ec2_strict.ACCOUNT]["aws"]
    if not any(role.name == name for role in iam.roles.values()):
        iam.create_role(name, json.dumps(trust), "/", None, "", [], None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret-key", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--folder")
    parser.add_argument("--boot", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reclo-ec2.") as temporary:
        server = moto_s3.Server(("127.0.0.1", options.port), Front)
        server.options, server.moto = options, moto_s3.Moto()
        capacity = Capacity(options.region)
        server.ebs = ec2_strict.install(options.folder or temporary, options.region, capacity)
        imported = imports.Imports(server.ebs, ec2_strict.make_snapshot_in(options.region), server.moto.lock)
        imports.install(imported)
        server.lab = Lab(options.region, server.ebs, capacity, imported)
        if options.boot:
            server.lab.fleet = Fleet(server.ebs.folder, options.region, server.ebs, server.moto.lock,
                                     server.server_address)
            boot.install(server.lab.fleet, server.ebs)
        for bucket in options.bucket:
            s3_backends[ec2_strict.ACCOUNT]["aws"].create_bucket(bucket, options.region)
        print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            server.serve_forever()
        finally:
            if server.lab.fleet:
                server.lab.fleet.close()


if __name__ == "__main__":
    main()
