"""What an account of the EC2 stand-in holds, asked of its API by AWS's own client: a test's eyes, not reclo's."""

import base64

LIVE = ("pending", "running", "shutting-down", "stopping", "stopped")


def rules(found):
    return [{"protocol": rule["IpProtocol"], "port": rule.get("FromPort"), "cidr": span["CidrIp"]}
            for rule in found for span in rule["IpRanges"]]


class Account:
    def __init__(self, rig):
        self.rig = rig

    def instances(self):
        return [{"id": one["InstanceId"], "groups": [group["GroupId"] for group in one["SecurityGroups"]],
                 "tags": {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}}
                for one in self.rig.instances(*LIVE)]

    def _all_groups(self):
        return self.rig.ec2("describe_security_groups")["SecurityGroups"]

    def groups(self):
        """Those that are not a VPC's own."""
        return [{"id": one["GroupId"], "ingress": rules(one["IpPermissions"]),
                 "egress": rules(one["IpPermissionsEgress"])}
                for one in self._all_groups() if one["GroupName"] != "default"]

    def default_group(self):
        return next(one["GroupId"] for one in self._all_groups() if one["GroupName"] == "default")

    def subnets(self):
        return sorted(({"id": one["SubnetId"], "zone": one["AvailabilityZone"], "cidr": one["CidrBlock"]}
                       for one in self.rig.ec2("describe_subnets")["Subnets"]), key=lambda one: one["zone"])

    def image_snapshots(self, image):
        found, = self.rig.ec2("describe_images", ImageIds=[image])["Images"]
        return [one["Ebs"]["SnapshotId"] for one in found["BlockDeviceMappings"]]

    def user_data(self, instance):
        answer = self.rig.ec2("describe_instance_attribute", InstanceId=instance, Attribute="userData")
        return base64.b64decode(answer["UserData"]["Value"]).decode()

    def terminate(self, instance):
        self.rig.ec2("terminate_instances", InstanceIds=[instance])

    def objects(self, bucket):
        """Keys of objects, and of uploads that were begun and not ended."""
        uploads = self.rig.aws("s3", "list_multipart_uploads", Bucket=bucket).get("Uploads", [])
        objects = self.rig.aws("s3", "list_objects_v2", Bucket=bucket).get("Contents", [])
        return [one["Key"] for one in objects + uploads]
