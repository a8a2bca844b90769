"""What an account of the EC2 stand-in holds, asked of its API by boto3: the tests' own eyes, not reclo's.

boto3 lives in the rigs' Python, so a child of that Python asks, one JSON line for each question.
"""

import json
import subprocess
import sys

LIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]


class Account:
    """Runs beside the test; `rig` is an Ec2Rig."""

    def __init__(self, story, rig, python):
        self.child = subprocess.Popen([python, __file__, rig.endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True, env={**rig.env, "AWS_DEFAULT_REGION": rig.env["AWS_REGION"]})
        story.later(lambda: (self.child.kill(), self.child.wait()))

    def __getattr__(self, question):
        def ask(*arguments):
            self.child.stdin.write(json.dumps([question, *arguments]) + "\n")
            self.child.stdin.flush()
            answer = json.loads(self.child.stdout.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return answer["value"]
        return ask


class Questions:
    """The child's side: a method for each question."""

    def __init__(self, endpoint):
        import boto3
        self.ec2 = boto3.client("ec2", endpoint_url=endpoint)
        self.s3 = boto3.client("s3", endpoint_url=endpoint)

    def instances(self):
        pages = self.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": LIVE}])
        return [{"id": one["InstanceId"], "state": one["State"]["Name"], "type": one["InstanceType"],
                 "groups": [group["GroupId"] for group in one["SecurityGroups"]],
                 "tags": {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}}
                for reservation in pages["Reservations"] for one in reservation["Instances"]]

    def _all_groups(self):
        return self.ec2.describe_security_groups()["SecurityGroups"]

    @staticmethod
    def _rules(rules):
        return [{"protocol": rule["IpProtocol"], "port": rule.get("FromPort"), "cidr": span["CidrIp"]}
                for rule in rules for span in rule["IpRanges"]]

    def groups(self):
        """Those that are not a VPC's own."""
        return [{"id": one["GroupId"], "ingress": self._rules(one["IpPermissions"]),
                 "egress": self._rules(one["IpPermissionsEgress"])}
                for one in self._all_groups() if one["GroupName"] != "default"]

    def default_group(self):
        return next(one["GroupId"] for one in self._all_groups() if one["GroupName"] == "default")

    def subnets(self):
        return sorted(({"id": one["SubnetId"], "zone": one["AvailabilityZone"], "cidr": one["CidrBlock"]}
                       for one in self.ec2.describe_subnets()["Subnets"]), key=lambda one: one["zone"])

    def image_snapshots(self, image):
        found, = self.ec2.describe_images(ImageIds=[image])["Images"]
        return [one["Ebs"]["SnapshotId"] for one in found["BlockDeviceMappings"]]

    def user_data(self, instance):
        import base64
        answer = self.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
        return base64.b64decode(answer["UserData"]["Value"]).decode()

    def terminate(self, instance):
        self.ec2.terminate_instances(InstanceIds=[instance])

    def objects(self, bucket):
        uploads = self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=bucket).get("Contents", []) + uploads]

    def make_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)


def main():
    questions = Questions(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": getattr(questions, name)(*arguments)}
        except Exception as error:  # told to the test, which fails with it
            answer = {"error": f"{name}: {error!r}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
