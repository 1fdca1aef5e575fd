"""Replace a directory, and be killed before or after one of the requests that it takes.

Run as a program: endpoint, CA, bucket, the request's number, `before` or `after`; the keys are in
the environment.
"""

from __future__ import annotations

import os
import signal
import sys

import boto3
from botocore.config import Config

from airflow_secure_ml.adapters.aws.s3 import S3Objects

NEXT = {"a.csv": b"next a", "b/c.csv": b"next c", "new.csv": b"next new", "_asml/k.asmk": b"key"}


def main(endpoint: str, ca: str, bucket: str, number: str, when: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        verify=ca,
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )
    left = int(number)

    def strike(**kwargs: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event = "before-send.s3" if when == "before" else "after-call.s3"
    client.meta.events.register(event, strike)
    with S3Objects(lambda bucket: client).create_directory(f"s3://{bucket}/d") as builder:
        for name, data in NEXT.items():
            with builder.create(name) as writer:
                writer.write_at(0, data)
                writer.commit(replace=False)
        builder.commit(replace=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
