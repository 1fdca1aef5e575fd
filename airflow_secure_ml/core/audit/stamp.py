"""A stamp: what the kernel, or an authentication, said about who sent the frames after it.

Written by a receiver alone, as the first frame of each segment it makes; whether a spool may hold
any is the sequencer's business.

Source: AUDIT_TRAIL, Spool, bytes: frame kind 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.errors import FormatError

WAYS = frozenset({"socket", "http"})
MAX_HOST = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Who sent.

    Attributes:
        via: `socket` or `http`.
        pid: The sender's process id as its receiver sees it; None where nothing tells.
        uid: The sender's user id; None where nothing tells.
        host: The machine it sent from; None: the receiver's own.
    """

    via: str
    pid: int | None = None
    uid: int | None = None
    host: str | None = None

    def encode(self) -> bytes:
        """The frame's payload."""
        fields = {"via": self.via, "pid": self.pid, "uid": self.uid, "host": self.host}
        return canonical.encode(
            {name: value for name, value in fields.items() if value is not None}
        )


def decode_stamp(payload: bytes) -> Stamp:
    """Read a stamp's payload; keys that this release does not know are passed over.

    Raises:
        FormatError: Not canonical, another way than `socket` and `http`, a field of another type,
            or no process and user beside `socket`.
    """
    record = canonical.decode(payload)
    if not isinstance(record, dict) or record.get("via") not in WAYS:
        raise FormatError(f"stamp: expected an object with via, one of {sorted(WAYS)}")
    stamp = Stamp(
        via=record["via"],
        pid=_number(record, "pid"),
        uid=_number(record, "uid"),
        host=_host(record),
    )
    if stamp.via == "socket" and (stamp.pid is None or stamp.uid is None):
        raise FormatError("stamp: pid and uid belong to every stamp of a socket")
    return stamp


def _number(record: dict[str, Any], name: str) -> int | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise FormatError(f"stamp: {name} is no whole number from 0 to 4294967295")
    return value


def _host(record: dict[str, Any]) -> str | None:
    value = record.get("host")
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= MAX_HOST):
        raise FormatError(f"stamp: host is no text of 1 to {MAX_HOST} characters")
    return value
