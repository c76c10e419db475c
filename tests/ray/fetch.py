"""Fetch an output from an S3 store into a folder: `fetch.py s3://BUCKET/PREFIX FOLDER`."""

import sys
from pathlib import Path

import boto3

bucket, _, prefix = sys.argv[1].removeprefix("s3://").partition("/")
prefix = prefix.strip("/") + "/"
client = boto3.client("s3")
for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
    for entry in page.get("Contents", []):
        path = Path(sys.argv[2]) / entry["Key"].removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, entry["Key"], str(path))
