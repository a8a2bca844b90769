#!/usr/bin/env python3
"""make_bucket.py ENDPOINT BUCKET - makes a bucket with the AWS key variables; one that is there is fine."""

import sys

import boto3
from botocore.config import Config

endpoint, bucket = sys.argv[1:3]
client = boto3.client(
    "s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
)
if bucket not in [known["Name"] for known in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=bucket)
