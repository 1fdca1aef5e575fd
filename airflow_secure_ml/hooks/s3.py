"""Which connection reaches which bucket.

The one that an address named, else the bucket's own of [secure_ml] s3_connections, else
aws_conn_id. One bucket has one connection: two would be two answers to what lies there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks.aws import ConnectedAws, connected_aws


class BucketConnections:
    """The connections of this process's buckets. Safe from many threads.

    Args:
        default: The connection of a bucket that has none of its own; empty: none at all.
        of_buckets: Connections by bucket.
    """

    def __init__(self, default: str, of_buckets: Mapping[str, str]) -> None:
        self._default, self._of_buckets = default, dict(of_buckets)
        self._named: dict[str, str] = {}
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._free_lock)

    def use(self, bucket: str, conn_id: str) -> None:
        """Remember that an address named this connection for a bucket.

        Raises:
            ConfigurationError: Another one was named for it, or stands in the settings.
        """
        with self._lock:
            before = self._named.get(bucket) or self._of_buckets.get(bucket)
            if before is None:
                before = self._named[bucket] = conn_id
        if before != conn_id:
            raise ConfigurationError(
                f"s3://{conn_id}@{bucket}: expected connection {before}, which this bucket has "
                "already; name one connection for a bucket, best in [secure_ml] s3_connections"
            )

    def client(self, bucket: str) -> Any:
        """The client of S3 that reaches a bucket; errors as in `hooks.aws.connected_aws`."""
        return self._connected(bucket).session.client("s3")

    def asked(self, bucket: str) -> Asked:
        """What its connection asks of what is written; errors as in `hooks.aws.connected_aws`."""
        return self._connected(bucket).asked

    def _connected(self, bucket: str) -> ConnectedAws:
        with self._lock:
            named = self._named.get(bucket)
        return connected_aws(named or self._of_buckets.get(bucket, self._default))

    def _free_lock(self) -> None:
        """In a forked child: another thread of the parent may have held it, and is not here."""
        self._lock = threading.Lock()
