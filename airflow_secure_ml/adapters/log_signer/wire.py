"""What a sequencer and a signer of another process say to each other: one question, one answer.

A frame is a length of 4 bytes, big endian, and so many bytes of canonical JSON. A connection
carries one of each. Neither side believes a length past its limit or waits longer than it said.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (what is asked and what is checked).
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.log_key import LogKey, parse_vkey
from airflow_secure_ml.core.audit.tree import HASH_BYTES
from airflow_secure_ml.errors import FormatError

VERSION = 1
# A note of two keys, a leaf or the proof over 2^64 leaves fit many times over.
LIMITS = canonical.Limits(max_bytes=1 << 16)
MAX_PATH = 64
_LENGTH = struct.Struct(">I")
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CREDENTIALS = struct.Struct("3i")
_ASKS = {
    "last": {"v", "ask"},
    "sign": {"v", "ask", "origin", "size", "root", "proof"},
    "hand_over": {"v", "ask", "origin", "size", "root", "proof", "leaf", "path"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question.

    Attributes:
        ask: `last`, `sign` or `hand_over`.
        origin: The log that is to be signed; empty for `last`.
        size: Number of its leaves.
        root: Its root, 32 bytes; empty for `last`.
        proof: Consistency proof from what was signed last.
        leaf: For `hand_over`: the last leaf's bytes.
        path: For `hand_over`: its audit path.
    """

    ask: str
    origin: str = ""
    size: int = 0
    root: bytes = b""
    proof: Sequence[bytes] = ()
    leaf: bytes = b""
    path: Sequence[bytes] = ()

    def encode(self) -> bytes:
        """Its JSON."""
        record: dict[str, Any] = {"v": VERSION, "ask": self.ask}
        if self.ask != "last":
            record |= {"origin": self.origin, "size": self.size, "root": self.root.hex()}
            record["proof"] = [step.hex() for step in self.proof]
        if self.ask == "hand_over":
            record |= {"leaf": self.leaf.decode("utf-8"), "path": [s.hex() for s in self.path]}
        return canonical.encode(record, limits=LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the signer says.

    Attributes:
        note: The newest note that it signed.
        successors: Keys that wait for the log to be handed over; empty: none do.
        error: The name of an error's class; empty: there was none.
        why: The error's code.
        message: The error's text.
    """

    note: str = ""
    successors: Sequence[LogKey] = ()
    error: str = ""
    why: str = ""
    message: str = ""

    def encode(self) -> bytes:
        """Its JSON."""
        record: dict[str, Any] = {"v": VERSION}
        if self.error:
            record |= {"error": self.error, "why": self.why, "message": self.message[:2000]}
        else:
            record |= {"note": self.note, "successors": [key.vkey() for key in self.successors]}
        return canonical.encode(record, limits=LIMITS)


def parse_request(data: bytes) -> Request:
    """Read a question.

    Raises:
        FormatError: It is none, or of another version.
    """
    record = _record(data)
    ask = record.get("ask")
    if not isinstance(ask, str) or _ASKS.get(ask) != set(record):
        raise FormatError("signer: expected a question of version 1, found another record")
    if ask == "last":
        return Request(ask=ask)
    size = record["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise FormatError("signer: size is not a number of leaves")
    return Request(
        ask=ask,
        origin=_text(record["origin"]),
        size=size,
        root=_hashes([record["root"]])[0],
        proof=_hashes(record["proof"]),
        leaf=_text(record.get("leaf", "")).encode("utf-8"),
        path=_hashes(record.get("path", [])),
    )


def parse_answer(data: bytes) -> Answer:
    """Read an answer.

    Raises:
        FormatError: It is none, or of another version.
    """
    record = _record(data)
    if set(record) == {"v", "error", "why", "message"}:
        error, why = _text(record["error"]), _text(record["why"])
        return Answer(error=error, why=why, message=_text(record["message"]))
    if set(record) != {"v", "note", "successors"} or not isinstance(record["successors"], list):
        raise FormatError("signer: expected an answer of version 1, found another record")
    keys = tuple(parse_vkey(_text(text)) for text in record["successors"])
    return Answer(note=_text(record["note"]), successors=keys)


def send(connection: socket.socket, data: bytes, *, until: float) -> None:
    """Send a frame; `until` is on the monotonic clock, seconds.

    Raises:
        OSError: The other side does not take it, or not in time.
    """
    _set_timeout(connection, until)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket, *, until: float) -> bytes:
    """Receive a frame; `until` as in `send`.

    Raises:
        FormatError: It ends early, or says that it is longer than a frame may be.
        OSError: It does not come in time.
    """
    [length] = _LENGTH.unpack(_exactly(connection, _LENGTH.size, until))
    if not 1 <= length <= LIMITS.max_bytes:
        raise FormatError(f"signer: a frame of {length} bytes, expected 1 to {LIMITS.max_bytes}")
    return _exactly(connection, length, until)


def peer_uid(connection: socket.socket) -> int:
    """Whose process is at the other end, as the kernel says."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(found)
    return int(uid)


def _exactly(connection: socket.socket, count: int, until: float) -> bytes:
    found = bytearray()
    while len(found) < count:
        # Anew for each part: a byte a second must not hold a connection for ever.
        _set_timeout(connection, until)
        part = connection.recv(count - len(found))
        if not part:
            raise FormatError(f"signer: {len(found)} bytes, expected {count}; the other side left")
        found += part
    return bytes(found)


def _set_timeout(connection: socket.socket, until: float) -> None:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("not in time")
    connection.settimeout(left)


def _record(data: bytes) -> Mapping[str, Any]:
    record = canonical.decode(data, limits=LIMITS)
    if not isinstance(record, dict) or record.get("v") != VERSION:
        raise FormatError("signer: expected a record of version 1")
    return record


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormatError("signer: a field is no text")
    return value


def _hashes(values: Any) -> tuple[bytes, ...]:
    if not isinstance(values, list) or len(values) > MAX_PATH:
        raise FormatError(f"signer: expected a list of at most {MAX_PATH} hashes")
    if not all(isinstance(value, str) and _HASH.fullmatch(value) for value in values):
        raise FormatError(f"signer: expected hashes, {HASH_BYTES} bytes in hex")
    return tuple(bytes.fromhex(value) for value in values)
