"""One address in one bucket, and the requests that are made about it, each tried again.

A request is repeated with the very same bytes, and only where repeating it does no harm: every
write has a condition or a part's number.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.adapters.aws.failures import S3, VENDOR_ERRORS, Failure, Kind, failure_of
from airflow_secure_ml.adapters.aws.s3.address import S3Address
from airflow_secure_ml.adapters.aws.s3.terms import Asked

log = logging.getLogger(__name__)

TRIES = 7
_FIRST_WAIT_S, _LAST_WAIT_S = 0.1, 5.0
_RETRIED = (Kind.BUSY, Kind.LOST)
# What an answer is worth nothing without.
_TOLD = {
    "get_object": "ETag",
    "head_object": "ETag",
    "put_object": "ETag",
    "upload_part": "ETag",
    "create_multipart_upload": "UploadId",
    "complete_multipart_upload": "ETag",
    "upload_part_copy": "CopyPartResult",
}


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A bucket, reached through one connection.

    Attributes:
        client_of: Gives this process's boto3 client for S3: a forked child has another.
        asked: What the connection asks of all that is written.
        encrypts: Whether the store was seen to confirm the encryption that is asked for.
    """

    client_of: Callable[[], Any]
    asked: Asked = field(default_factory=Asked)
    encrypts: bool = False

    @property
    def client(self) -> Any:
        """This process's client."""
        return self.client_of()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One object's place.

    Attributes:
        bucket: The bucket.
        address: Its parts.
        stop: Set when nothing is to be tried again.
    """

    bucket: Bucket
    address: S3Address
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self.address.uri

    @property
    def key(self) -> str:
        """The object's key."""
        return self.address.key

    def ask(self, act: str, method: str, *, but: tuple[Kind, ...] = (), **arguments: Any) -> Any:
        """Make a request about this object; returns the answer.

        Args:
            act: What it is for, such as `read`.
            method: The client's method.
            but: Failures that are returned as `Failure`, not raised.
            **arguments: The method's; bucket and key are added.

        Raises:
            ServiceError: It refused, or did not answer after all tries.
            ConfigurationError: It could not be asked.
            IntegrityError: What is there is not what was asked for.
        """
        return self.ask_bucket(act, method, but=but, Key=self.key, **arguments)

    def ask_bucket(
        self, act: str, method: str, *, but: tuple[Kind, ...] = (), **arguments: Any
    ) -> Any:
        """As `ask`, about the bucket."""
        call = getattr(self.bucket.client, method)
        for left in reversed(range(TRIES)):
            try:
                answer = call(Bucket=self.address.bucket, **arguments)
            except VENDOR_ERRORS as error:
                failure, cause = failure_of(error), type(error).__name__
            else:
                cause = _TOLD.get(method, "ResponseMetadata")
                if answer.get(cause):
                    # Whoever asked twice may have been answered twice, and heard the second only.
                    retried = answer["ResponseMetadata"].get("RetryAttempts")
                    answer["AskedAgain"] = left < TRIES - 1 or bool(retried)
                    return answer
                failure = Failure(kind=Kind.LOST, reason=f"no {cause} in its answer")
            if left and failure.kind in _RETRIED and not self.stop.is_set():
                wait_s = _wait_s(TRIES - left)
                log.info("%s: %s, again in %.1f s", self.uri, failure.reason, wait_s)
                self.stop.wait(wait_s)
                continue
            if failure.kind in but:
                return failure
            raise self.error(act, failure) from RuntimeError(cause)
        raise AssertionError("unreachable")

    def error(self, act: str, failure: Failure) -> Exception:
        """Ours for a failure."""
        return failure.as_error(service=S3, action=f"{act} {self.uri}")


def _wait_s(tries: int) -> float:
    # Jitter keeps clients that were slowed down together from coming back together.
    most_s = min(float(_FIRST_WAIT_S * 3 ** (tries - 1)), _LAST_WAIT_S)
    return most_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
