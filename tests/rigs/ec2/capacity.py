"""What stands between an account and its instances: quotas, capacity, and types that do not take an image.

Source: EC2 user guide (on-demand limits, error codes), Service Quotas API reference.
"""

import json

from moto.ec2.models.instance_types import INSTANCE_TYPES
from refusal import ACCOUNT, Refusal

STANDARD_QUOTA = "L-1216C47A"
STANDARD_FAMILIES = set("acdhimrtz")


def vcpus_of(instance_type):
    return INSTANCE_TYPES.get(instance_type, {}).get("VCpuInfo", {}).get("DefaultVCpus", 1)


def memory_mib_of(instance_type):
    return INSTANCE_TYPES.get(instance_type, {}).get("MemoryInfo", {}).get("SizeInMiB", 1024)


class QuotaError(Exception):
    def __init__(self, kind, message):
        super().__init__(message)
        self.kind, self.message = kind, message


class Capacity:
    """Set by tests; asked under moto's lock."""

    def __init__(self, region):
        self.region = region
        self.quotas = {STANDARD_QUOTA: 32.0}
        self.without = set()  # (instance type, zone), "*" for any

    def check(self, backend, image, instance_type, zone, count):
        """Raises what AWS answers when it will not run this."""
        self.check_image(image, instance_type)
        if instance_type[:1] in STANDARD_FAMILIES:
            limit = int(self.quotas[STANDARD_QUOTA])
            used = sum(vcpus_of(instance.instance_type) for reservation in backend.reservations.values()
                       for instance in reservation.instances
                       if instance.state in ("pending", "running") and instance.instance_type[:1] in STANDARD_FAMILIES)
            if used + count * vcpus_of(instance_type) > limit:
                raise Refusal("VcpuLimitExceeded", (
                    f"You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the "
                    "instance bucket that the specified instance type belongs to. Please visit "
                    "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."))
        if self.without & {(instance_type, zone), (instance_type, "*"), ("*", zone), ("*", "*")}:
            others = [self.region + letter for letter in "abcdef" if self.region + letter != zone]
            raise Refusal("InsufficientInstanceCapacity", (
                f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
                f"({zone}). Our system will be working on provisioning additional capacity. You can currently get "
                f"{instance_type} capacity by not specifying an Availability Zone in your request or choosing "
                f"{', '.join(others)}."))

    @staticmethod
    def check_image(image, instance_type):
        kind = INSTANCE_TYPES.get(instance_type)
        if not kind or not getattr(image, "lab_disks", None):
            return
        architectures = kind.get("ProcessorInfo", {}).get("SupportedArchitectures", [])
        if architectures and image.architecture not in architectures:
            raise Refusal("InvalidParameterValue", (
                f"The architecture '{architectures[-1]}' of the specified instance type does not match the architecture "
                f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
                "architectures, and try again."))
        if kind.get("NetworkInfo", {}).get("EnaSupport") == "required" and not image.ena_support:
            raise Refusal("InvalidParameterCombination", (
                f"Enhanced networking with the Elastic Network Adapter (ENA) is required for the '{instance_type}' "
                "instance type. Ensure that you are using an AMI that is enabled for ENA."))
        if image.boot_mode == "uefi" and "uefi" not in kind.get("SupportedBootModes", ["legacy-bios", "uefi"]):
            raise Refusal("InvalidParameterCombination",
                          f"The instance type {instance_type} does not support an AMI with a UEFI boot mode.")

    def quota_request(self, action, body):
        """The Service Quotas API's answer; raises QuotaError."""
        if action != "ServiceQuotasV20190624.GetServiceQuota":
            raise QuotaError("UnknownOperationException", action)
        asked = json.loads(body or b"{}")
        code = asked.get("QuotaCode")
        if asked.get("ServiceCode") != "ec2" or code not in self.quotas:
            raise QuotaError("NoSuchResourceException", "The request failed because the specified service quota does "
                                                        "not exist.")
        return {"Quota": {
            "ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaCode": code,
            "QuotaArn": f"arn:aws:servicequotas:{self.region}:{ACCOUNT}:ec2/{code}",
            "QuotaName": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
            "Value": self.quotas[code], "Unit": "None", "Adjustable": True, "GlobalQuota": False}}
