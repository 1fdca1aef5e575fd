"""One connection as the collector's loop sees it.

Source: AUDIT_TRAIL, What it proves.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol

from airflow_secure_ml.adapters.collector.peer import Peer, has_ended, receive
from airflow_secure_ml.adapters.collector.talk import Talk
from airflow_secure_ml.adapters.collector.writing import Writing
from airflow_secure_ml.core.audit.collecting import Answer
from airflow_secure_ml.core.audit.frame import STAMP, encode_frame
from airflow_secure_ml.core.audit.receiving import Place, Refused, Sender
from airflow_secure_ml.core.audit.stamp import Stamp

READ_BYTES = 64 << 10


class Segment(Protocol):
    """An emitter's segment; its first frame in each part is its stamp."""

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Write, and with `wait` return when it would survive a power loss; OSError if not."""

    def close(self) -> None:
        """Let go of it; the sequencer may take it as ended."""


class Caller:
    """One connection; only ever touched by the loop's thread.

    Args:
        line: Its socket.
        peer: Who connected.
        since_s: When.
        find_place: Where an emitter is, for this caller.

    Attributes:
        segment: Where its emitter's frames go; None before there are any.
        writing: What is being written; None: nothing.
        is_known: Whether its emitter's place is kept already.
        is_closing: Whether it is not listened to any more.
        is_reading: Whether the loop waits for its bytes.
        has_ended: Whether its process has ended: what is left to read is all there will be.
    """

    __slots__ = (
        "has_ended",
        "is_closing",
        "is_known",
        "is_reading",
        "line",
        "peer",
        "segment",
        "since_s",
        "talk",
        "writing",
    )

    def __init__(
        self,
        line: socket.socket,
        peer: Peer,
        since_s: float,
        find_place: Callable[[str, Caller], Place | Refused | None],
    ) -> None:
        self.line, self.peer, self.since_s = line, peer, since_s
        self.talk = Talk(lambda emitter: find_place(emitter, self))
        self.segment: Segment | None = None
        self.writing: Writing | None = None
        self.is_known = self.is_closing = self.is_reading = self.has_ended = False

    @property
    def sender(self) -> Sender:
        """Who connected."""
        return self.peer.sender

    @property
    def emitter(self) -> str | None:
        """Its emitter; None before it said so."""
        return None if self.talk.reception is None else self.talk.reception.emitter

    @property
    def is_idle(self) -> bool:
        """Whether it may be read: nothing of it is being written, and it was not let go of."""
        return self.writing is None and not self.is_closing and not self.talk.is_waiting

    @property
    def stamp(self) -> bytes:
        """The frame that says who it is."""
        stamp = Stamp(via="socket", pid=self.sender.pid, uid=self.sender.uid)
        return encode_frame(STAMP, stamp.encode())

    def look_whether_ended(self) -> bool:
        """Look whether its process has ended; True once, when that is new."""
        if self.has_ended or not has_ended(self.peer.pidfd):
            return False
        self.has_ended = True
        return True

    def read(self) -> Refused | bool:
        """Take some bytes; False: none are left, and none will come.

        Raises:
            BlockingIOError: None are there now.
        """
        try:
            data, who = receive(self.line, READ_BYTES)
        except BlockingIOError:
            if self.has_ended:
                return False
            raise
        except OSError:
            return False
        if not data:
            return False
        if who != (self.sender.pid, self.sender.uid):
            # A descriptor can be handed on, and outlives who opened it.
            return Refused(because="bytes that another process wrote")
        self.talk.add(data)
        return True

    def say(self, answer: Answer) -> bool:
        """Answer; False: it does not read what it is told, or is gone."""
        return say(self.line, answer)

    def close(self) -> None:
        """Let go of all it has."""
        if self.segment is not None:
            self.segment.close()
        self.line.close()
        os.close(self.peer.pidfd)


def say(line: socket.socket, answer: Answer) -> bool:
    """Answer over a connection that does not block; False: it cannot be told."""
    data = answer.encode()
    try:
        return line.send(data, socket.MSG_NOSIGNAL) == len(data)
    except OSError:
        return False
