"""A sender's end: an emitter's frames to the collector, and its word that they are durable.

What was sent and not acknowledged is sent again over a new connection; the collector drops what it
has. Nothing slow is imported: the guardian uses this too.

Source: AUDIT_TRAIL, When it is durable.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import Final

from airflow_secure_ml.adapters.collector.door import connect_to
from airflow_secure_ml.core.audit.collecting import (
    ANSWER_HEAD_BYTES,
    DURABLE,
    POINT,
    REFUSED,
    decode_answer_head,
)
from airflow_secure_ml.core.audit.frame import SegmentHeader, encode_header
from airflow_secure_ml.core.audit.lines import FINAL, Patience, not_durable
from airflow_secure_ml.errors import FormatError, ServiceUnavailableError

# A collector that is started anew is there again within a second or two.
PATIENCE_S: Final = 10.0
# Longer than a slow disk takes, shorter than anybody waits for a page.
ANSWER_S: Final = 30.0
_CLOSE_S: Final = 2.0
_RETRY_S: Final = 0.05


class CollectorLines:
    """Gives each emitter its line to a collector.

    Args:
        path: The collector's socket.
        patience_s: How long to wait for a collector that is not there.
    """

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path, self._patience_s = path, patience_s

    def open(self, emitter: str) -> CollectorLine:
        """A line for a new emitter; it connects with its first frames."""
        return CollectorLine(self._path, emitter, patience_s=self._patience_s)

    def unavailable(self, found: str) -> ServiceUnavailableError:
        """What to raise where it does not take what it should."""
        advice = (
            "see that the collector runs, as another user, and that [secure_ml] audit_collector "
            "names its socket"
        )
        return not_durable("audit collector", self._path, found, advice)


class CollectorLine:
    """One emitter's line to the collector. Not safe from many threads: the sink's lock is.

    Args:
        path: The collector's socket.
        emitter: 32 hex digits.
        patience_s: How long to wait for a collector that is not there.
    """

    def __init__(self, path: Path, emitter: str, *, patience_s: float = PATIENCE_S) -> None:
        self._path, self._emitter = path, emitter
        self._patience = Patience(patience_s, time.monotonic)
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        # Set before anything is sent, cleared when all is answered: an exception may strike
        # between, and what the collector then has of it nobody knows.
        self._is_pending = False

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Send frames; as `adapters.spool`'s parts, the same bytes again if it failed.

        Args:
            frames: Everything since the last call that returned with `wait`.
            wait: Whether to return only when they would survive a power loss.

        Raises:
            OSError: They are not taken, or nobody is there to take them.
        """
        with self._patience.turn(wait=wait) as until:
            while not self._is_sent(frames, wait, until):
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """Let go of the connection; in a forked child the parent's stays as it is."""
        self._drop()

    def _is_sent(self, frames: bytes, wait: bool, until: float) -> bool:
        try:
            self._send(frames, wait=wait)
        except OSError as error:
            self._drop()
            if error.errno in FINAL or time.monotonic() >= until:
                raise
            return False
        return True

    def _send(self, frames: bytes, *, wait: bool) -> None:
        if self._is_pending or not self._is_held():
            self._drop()
        self._is_pending = True
        data = frames
        if self._socket is None:
            self._socket = connect_to(self._path, ANSWER_S if wait else _CLOSE_S)
            found = os.fstat(self._socket.fileno())
            self._identity = (found.st_dev, found.st_ino)
            data = encode_header(SegmentHeader(emitter=self._emitter, part=0)) + frames
        self._socket.settimeout(ANSWER_S if wait else _CLOSE_S)
        self._put(self._socket, data + POINT if wait else data)
        if wait:
            self._read_answer(self._socket)
        self._is_pending = False

    def _put(self, line: socket.socket, data: bytes) -> None:
        try:
            line.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # A collector that says no does so before it lets go.
            self._read_answer(line)
            raise

    def _read_answer(self, line: socket.socket) -> None:
        status, length = _head(_exactly(line, ANSWER_HEAD_BYTES))
        text = _exactly(line, length).decode("utf-8", "replace")
        if status == REFUSED:
            raise OSError(errno.EPROTO, f"the collector refuses it: {text}")
        if status != DURABLE:
            raise OSError(errno.EAGAIN, f"the collector cannot take it now: {text}")

    def _is_held(self) -> bool:
        """Tell whether the descriptor is still this socket: code in this process may close any."""
        if self._socket is None:
            return True
        try:
            found = os.fstat(self._socket.fileno())
        except OSError:
            found = None
        if found is not None and (found.st_dev, found.st_ino) == self._identity:
            return True
        # The number is another file's by now: not closed.
        self._socket.detach()
        self._socket = None
        return False

    def _drop(self) -> None:
        line, self._socket = self._socket, None
        self._is_pending = False
        if line is not None:
            # Not shutdown: a forked child must not end its parent's connection.
            line.close()


def _head(data: bytes) -> tuple[int, int]:
    try:
        return decode_answer_head(data)
    except FormatError as error:
        raise OSError(errno.EPROTO, str(error)) from error


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        received = line.recv(count - len(data))
        if not received:
            raise ConnectionResetError(errno.ECONNRESET, "the collector let go")
        data += received
    return data
