#!/usr/bin/env python3
"""AWS's own Python client for the suites, which have none: a request a line on stdin, an answer a line on stdout.

    caller.py ENDPOINT REGION      credentials are in the environment
    {"service": "ec2", "method": "describe_images", "parameters": {...}}
      -> {"answer": {...}} or {"error": {"code", "message", "status"}}; bytes come as base64 and are
         given as {"base64": "..."}. A connection that broke has its exception's name as the code.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return base64.b64encode(value.read()).decode() if hasattr(value, "read") else str(value)


def is_bytes(value):
    return isinstance(value, dict) and set(value) == {"base64"}


def main():
    endpoint, region = sys.argv[1:]
    clients = {}
    for line in sys.stdin:
        asked = json.loads(line)
        service = asked["service"]
        if service not in clients:
            clients[service] = boto3.client(service, endpoint_url=endpoint, region_name=region,
                                            config=Config(retries={"total_max_attempts": 1}))
        try:
            parameters = {name: base64.b64decode(value["base64"]) if is_bytes(value) else value
                          for name, value in asked["parameters"].items()}
            answer = getattr(clients[service], asked["method"])(**parameters)
            answer.pop("ResponseMetadata", None)
            told = {"answer": answer}
        except HTTPClientError as error:
            told = {"error": {"code": type(error).__name__, "message": str(error), "status": 0}}
        except ClientError as error:
            told = {"error": {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"],
                              "status": error.response["ResponseMetadata"]["HTTPStatusCode"]}}
        print(json.dumps(told, default=plain), flush=True)


if __name__ == "__main__":
    main()
