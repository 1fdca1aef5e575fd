"""A stamp: what the kernel, or an authentication, said about who sent the frames after it.

Written by a receiver alone, as the first frame of each segment it makes; whether a spool may hold
any is the sequencer's business.

Source: AUDIT_TRAIL, Spool, bytes: frame kind 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.errors import FormatError

WAYS = frozenset({"socket", "http", "inbox"})
MAX_HOST = 255
MAX_LOGIN = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Who sent.

    Attributes:
        via: `socket`, `http` or `inbox`.
        pid: The sender's process id as its receiver sees it; None where nothing tells.
        uid: The sender's user id; None where nothing tells.
        host: The machine it sent from; None: the receiver's own.
        login: Who it logged in as: at the inbox's database, or by a team's token; None elsewhere.
    """

    via: str
    pid: int | None = None
    uid: int | None = None
    host: str | None = None
    login: str | None = None

    def is_sender_of(self, first: Stamp) -> bool:
        """Whether this is who sent an emitter's first event."""
        # By HTTP it is the token that is known; an address changes with what stands between.
        return self == first or (self.via == first.via == "http" and self.login == first.login)

    def encode(self) -> bytes:
        """The frame's payload."""
        fields: dict[str, str | int | None] = {"via": self.via, "pid": self.pid, "uid": self.uid}
        fields |= {"host": self.host, "login": self.login}
        return canonical.encode(
            {name: value for name, value in fields.items() if value is not None}
        )


def decode_stamp(payload: bytes) -> Stamp:
    """Read a stamp's payload; keys that this release does not know are passed over.

    Raises:
        FormatError: Not canonical, an unknown way, a field of another type, no process and user
            beside `socket`, or no login beside `inbox`.
    """
    record = canonical.decode(payload)
    if not isinstance(record, dict) or record.get("via") not in WAYS:
        raise FormatError(f"stamp: expected an object with via, one of {sorted(WAYS)}")
    stamp = Stamp(
        via=record["via"],
        pid=_number(record, "pid"),
        uid=_number(record, "uid"),
        host=_text(record, "host", MAX_HOST),
        login=_text(record, "login", MAX_LOGIN),
    )
    if stamp.via == "socket" and (stamp.pid is None or stamp.uid is None):
        raise FormatError("stamp: pid and uid belong to every stamp of a socket")
    if stamp.via == "inbox" and stamp.login is None:
        raise FormatError("stamp: login belongs to every stamp of an inbox")
    return stamp


def found_stamp(more: Mapping[str, Any]) -> Stamp | None:
    """Who sent an emitter's events, as the sequencer said when it found it; None: a spool's.

    Args:
        more: Of its trail.emitter, which is a leaf of the log.
    """
    via = more.get("via")
    if via not in WAYS:
        return None
    # Where the stamp names no host, the sequencer's own stands there.
    host = more.get("host") if via == "http" else None
    return Stamp(
        via=via, pid=more.get("pid"), uid=more.get("uid"), host=host, login=more.get("login")
    )


def _number(record: dict[str, Any], name: str) -> int | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise FormatError(f"stamp: {name} is no whole number from 0 to 4294967295")
    return value


def _text(record: dict[str, Any], name: str, most: int) -> str | None:
    value = record.get(name)
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= most):
        raise FormatError(f"stamp: {name} is no text of 1 to {most} characters")
    return value
