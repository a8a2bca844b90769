"""How moto's EC2 is made to refuse something, and whose account it is."""

from moto.ec2.exceptions import EC2ClientError

ACCOUNT = "123456789012"


class Refusal(EC2ClientError):
    """Refusal(code, message)"""
