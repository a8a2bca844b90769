"""The instance metadata service: IMDSv2, and v1 where the instance takes it.

Source: EC2 user guide, "Use instance metadata"; the paths are those that cloud-init and ReClo ask for.
"""

import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TTL_MAX_S = 21_600
VERSIONS = ("latest", "1.0", "2009-04-04", "2016-09-02", "2021-03-23", "2021-07-15")


class Metadata(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if self.path.strip("/").split("/")[1:] != ["api", "token"]:
            return self.say(404)
        if self.headers.get("x-forwarded-for"):
            return self.say(403)
        ttl = self.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX_S:
            return self.say(400)
        token = secrets.token_urlsafe(40)
        self.server.tokens[token] = time.monotonic() + int(ttl)
        return self.say(200, token.encode(), [("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)])

    def do_GET(self):
        options = self.server.describe()
        if not options["enabled"]:
            return self.say(403)
        token = self.headers.get("x-aws-ec2-metadata-token")
        if token is None and options["tokens_required"]:
            return self.say(401)
        if token is not None and self.server.tokens.get(token, 0) < time.monotonic():
            return self.say(401)
        version, _, path = self.path.strip("/").partition("/")
        if version not in VERSIONS:
            return self.say(404)
        value = find(options["tree"], path)
        self.server.asked.append(f"GET {self.path}")
        return self.say(404) if value is None else self.say(200, value)

    def say(self, status, content=b"", headers=()):
        if status != 200:
            title = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status]
            content = f"<html><head><title>{status} - {title}</title></head></html>".encode()
        self.send_response_only(status)
        for name, value in (*headers, ("Content-Type", "text/plain"), ("Server", "EC2ws"),
                            ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_args):
        pass


def find(tree, path):
    """A value of the tree, or the list of a folder's names; None when there is none."""
    for name in [part for part in path.split("/") if part]:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    if isinstance(tree, dict):
        names = tree.get("", None) or [name + "/" if isinstance(value, dict) else name for name, value in tree.items()]
        return "\n".join(names).encode()
    return tree if isinstance(tree, bytes) else str(tree).encode()


def serve(listener, describe):
    """Serves on a listening socket; describe() = {"enabled", "tokens_required", "tree"}, asked each time."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata, bind_and_activate=False)
    server.socket.close()
    server.socket, server.daemon_threads = listener, True
    server.describe, server.tokens, server.asked = describe, {}, []
    return server


def tree_of(instance, region, account, key):
    """What an instance may know of itself. key: (name, openssh key) or None."""
    nic = instance.nics[0]
    mac = nic.mac_address
    interface = {"device-number": 0, "interface-id": nic.id, "local-ipv4s": instance.private_ip, "mac": mac,
                 "subnet-id": instance.subnet_id or nic.subnet.id, "vpc-id": instance.vpc_id,
                 "subnet-ipv4-cidr-block": nic.subnet.cidr_block, "owner-id": account,
                 "security-groups": "\n".join(group.name for group in nic.group_set),
                 "security-group-ids": "\n".join(group.id for group in nic.group_set)}
    data = {"ami-id": instance.image_id, "ami-launch-index": instance.ami_launch_index,
            "hostname": instance.private_dns_name, "instance-action": "none", "instance-id": instance.id,
            "instance-life-cycle": "on-demand", "instance-type": instance.instance_type,
            "local-hostname": instance.private_dns_name, "local-ipv4": instance.private_ip, "mac": mac,
            "network": {"interfaces": {"macs": {mac: interface}}},
            "placement": {"availability-zone": instance.availability_zone, "region": region},
            "block-device-mapping": {"ami": instance.root_device_name, "root": instance.root_device_name},
            "reservation-id": "r-0lab", "security-groups": interface["security-groups"],
            "services": {"domain": "amazonaws.com", "partition": "aws"}}
    if instance.public_ip:
        data |= {"public-ipv4": instance.public_ip, "public-hostname": instance.public_dns_name}
        interface["public-ipv4s"] = instance.public_ip
    if key:
        data["public-keys"] = {"": [f"0={key[0]}"], "0": {"openssh-key": key[1]}}
    document = {"accountId": account, "architecture": instance.architecture, "imageId": instance.image_id,
                "availabilityZone": instance.availability_zone, "instanceId": instance.id,
                "instanceType": instance.instance_type, "privateIp": instance.private_ip, "region": region,
                "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"), "version": "2017-09-30"}
    return {"meta-data": data,
            "dynamic": {"instance-identity": {"document": json.dumps(document, indent=2)}}}
