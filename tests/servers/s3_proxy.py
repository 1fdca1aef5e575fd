"""What can go wrong between a client and S3, for `proxy.Proxy` to do on request.

The proxy keeps the Host header, since SigV4 signs it, so signatures survive. Headers of a request
are signed, too: a store that passes over one is played by leaving it out of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dags_examples.demo.s3_server import RunningS3
from tests.servers.proxy import Alter, Answer, Proxy

_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{code}</Code><Message>the proxy says {code}</Message>"
    "<Resource>/</Resource><RequestId>0</RequestId></Error>"
)
_STATUSES = {
    "SlowDown": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "ExpiredToken": 400,
    "RequestTimeout": 400,
    "BadDigest": 400,
    "AccessDenied": 403,
    "NoSuchKey": 404,
    "PreconditionFailed": 412,
    "ConditionalRequestConflict": 409,
}


def before(s3: RunningS3, folder: Path, *, plain: bool = False) -> Proxy:
    """A proxy before a running S3 server; acts' paths are `bucket/key?query`."""
    return Proxy.before(s3, folder, plain=plain, base="/")


def s3_error(
    code: str, *, path: str = "", method: str = "", has: str = "", skip: int = 0, times: int = 1
) -> Answer:
    """The answer of a store that fails; it never sees the request.

    Args:
        code: Such as `SlowDown`.
        path: As `proxy.Act`, and so the others.
    """
    return Answer(
        status=_STATUSES[code],
        headers={"Content-Type": "application/xml"},
        body=_ERROR.format(code=code).encode(),
        path=path,
        method=method,
        has=has,
        skip=skip,
        times=times,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipByte(Alter):
    """Flip a bit of one byte in the answer's body.

    Attributes:
        at: Which byte; negative: from the end.
    """

    at: int = 0

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        flipped = bytearray(body)
        flipped[self.at] ^= 1
        return headers, bytes(flipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHeaders(Alter):
    """Say something else in headers of the answer, such as another checksum."""

    headers: dict[str, str] = field(default_factory=dict)

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        names = {name.lower() for name in self.headers}
        kept = {name: value for name, value in headers.items() if name.lower() not in names}
        return kept | self.headers, body


@dataclass(frozen=True, slots=True, kw_only=True)
class DropHeaders(Alter):
    """Leave headers out of the answer, as a store does that passes over what it was asked.

    Attributes:
        prefixes: What their names begin with, in lower case.
    """

    prefixes: tuple[str, ...] = ("x-amz-server-side-encryption",)

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        left = {k: v for k, v in headers.items() if not k.lower().startswith(self.prefixes)}
        return left, body


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBody(Alter):
    """Answer with another body of the same length or another."""

    body: bytes = b""

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return headers, self.body
