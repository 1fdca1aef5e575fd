"""The log as receivers of events take it: bounded batches of leaves, encoded for one of them.

Every leaf that is sequenced is sent, signed for or not: its index and its hash are in each form, so
a receiver can have it proven later. Pure; who sends is in `adapters.siem`.

Source: RFC 5424 (syslog), RFC 5425 (octet counting); OTLP 1.5; CloudEvents 1.0.2, batch mode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from airflow_secure_ml.core.audit.cef import to_cef
from airflow_secure_ml.core.audit.cloud_event import to_cloud_event
from airflow_secure_ml.core.audit.ocsf import HIGH, LOW, MEDIUM, PRODUCT, to_ocsf
from airflow_secure_ml.core.audit.otlp import to_otlp
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.errors import ConfigurationError, FormatError

FORMATS = ("ocsf", "cloudevents", "otlp")
# What siem_events may ask for, and the beginnings of the activities that it means.
EVENTS: dict[str, tuple[str, ...]] = {"all": (), "alerts": ("alert.",)}
CONTENT_TYPES = {
    "ocsf": "application/x-ndjson",
    "cloudevents": "application/cloudevents-batch+json",
    "otlp": "application/json",
}
OTLP_PATH = "/v1/logs"
# RFC 5424, 6.2.1: facility 13 is "log audit"; severities error, warning, notice, informational.
_FACILITY = 13
_SEVERITIES = {HIGH: 3, MEDIUM: 4, LOW: 5}
_INFORMATIONAL = 6
_NOT_MSGID = re.compile(r"[^!-~]")
_MAX_MSGID = 32
_URL = re.compile(
    r"(https://[A-Za-z0-9.-]+|https://\[[0-9a-fA-F:]+\]"
    r"|http://(127\.0\.0\.1|\[::1\]|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~/:@!$&+,;=%-]*)?",
    re.ASCII,
)
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,45}\]):([0-9]{1,5})", re.ASCII)
_CURSOR = re.compile(r"1 (0|[1-9][0-9]{0,18}) ([0-9a-f]{64}|-) (\S{1,300})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What a receiver says that takes nothing now.

    Attributes:
        reason: Its answer in short.
        retry_after_s: In how many seconds to ask again; None: it did not say.
    """

    reason: str
    retry_after_s: float | None = None


class Receiver(Protocol):
    """Takes leaves, over one way. `name` names it in the book, in alerts and on pages."""

    name: str

    def send(self, leaves: Sequence[Leaf], *, origin: str) -> Busy | None:
        """Hand leaves over, in order; None: it has confirmed them all.

        Raises:
            ServiceUnavailableError: No confirmation; it may have taken any of them.
            ServiceRefusedError: It says that it does not take them, now or later.
            ConfigurationError: The token or the certificates cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host and its port.

    Attributes:
        host: A name or an address, without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a receiver has confirmed a log.

    Attributes:
        origin: The log's name.
        next: Index of the next leaf to send.
        last: Leaf hash of the one before it; None: nothing was sent.
    """

    origin: str
    next: int = 0
    last: bytes | None = None

    def encode(self) -> str:
        """As one line: version, next index, hash, name."""
        last = "-" if self.last is None else self.last.hex()
        return f"1 {self.next} {last} {self.origin}"


def parse_cursor(text: str) -> Cursor:
    """Read what `Cursor.encode` wrote.

    Raises:
        FormatError: It is not that.
    """
    found = _CURSOR.fullmatch(text)
    if found is None or (found[1] == "0") != (found[2] == "-"):
        raise FormatError(f"relay book: cursor {text[:60]!r}: expected `1 <index> <hash> <log>`")
    last = None if found[2] == "-" else bytes.fromhex(found[2])
    return Cursor(origin=found[3], next=int(found[1]), last=last)


def encode_body(leaves: Sequence[Leaf], form: str, *, origin: str, version: str) -> bytes:
    """Encode a batch as one request's body.

    Args:
        leaves: In the order they are to arrive in.
        form: One of `FORMATS`.
        origin: The log's name.
        version: This package's version.
    """
    if form == "otlp":
        return _json(to_otlp(leaves, origin=origin, version=version))
    if form == "cloudevents":
        return _json([to_cloud_event(leaf, origin=origin) for leaf in leaves])
    return b"".join(_json(to_ocsf(leaf, origin=origin)) + b"\n" for leaf in leaves)


def encode_syslog(leaf: Leaf, *, origin: str, version: str) -> bytes:
    """Encode one leaf as a syslog message that holds CEF, with its length before it.

    No byte order mark: receivers look for `CEF:` where the message begins.
    """
    event = to_ocsf(leaf, origin=origin)
    severity = _SEVERITIES.get(event["severity_id"], _INFORMATIONAL)
    name = _NOT_MSGID.sub("_", str(event["activity_name"]))[:_MAX_MSGID] or "-"
    head = f"<{_FACILITY * 8 + severity}>1 {_timestamp(event['time'])} - {PRODUCT} - {name} -"
    message = f"{head} {to_cef(leaf, origin=origin, version=version)}".encode("utf-8", "replace")
    return b"%d %s" % (len(message), message)


def parse_siem_url(text: str) -> str:
    """Where events are posted; empty: nowhere.

    Raises:
        ConfigurationError: Another form. It is not shown: there may be a secret in it.
    """
    if text and not _URL.fullmatch(text):
        raise ConfigurationError(
            "expected https://host/path without a user, a password or a question mark (a token "
            "belongs into the file of siem_token_path); http to 127.0.0.1, [::1], localhost alone"
        )
    return text


def parse_siem_format(text: str) -> str:
    """One of `FORMATS`.

    Raises:
        ConfigurationError: Another word.
    """
    if text not in FORMATS:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: {', '.join(FORMATS)}")
    return text


def parse_siem_events(text: str) -> tuple[str, ...]:
    """Beginnings of the activities that receivers get; empty: every event.

    Raises:
        ConfigurationError: Another word.
    """
    if text not in EVENTS:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: {', '.join(EVENTS)}")
    return EVENTS[text]


def parse_siem_syslog(text: str) -> Place | None:
    """Where syslog over TLS is taken, `host:port`; None: nowhere.

    Raises:
        ConfigurationError: Another form.
    """
    if not text:
        return None
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ConfigurationError(f"found {text[:60]!r}; expected host:port, such as siem:6514")
    return Place(host=found[1].strip("[]"), port=int(found[2]))


def _json(value: Any) -> bytes:
    # A lone surrogate of a task's words is no UTF-8; escaped, it is JSON.
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _timestamp(time_ms: int) -> str:
    try:
        found = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return "-"
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
