"""Take emitters' frames that came by HTTP, durably, into segments that a stamp begins.

Who may send is checked before. What an emitter sent before in this process is not written again;
of what another process took, the sequencer drops what it has.

Source: AUDIT_TRAIL, When it is durable; Spool, bytes: frame kind 3.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.frame import EVENT, STAMP, Frame, encode_frame, read_frames
from airflow_secure_ml.core.audit.receiving import TAKEN, Place, Reception, Refused, Sender
from airflow_secure_ml.core.audit.stamp import Stamp
from airflow_secure_ml.errors import FormatError

MAX_EMITTERS: Final = 4096
# An emitter that said nothing for so long is let go of: the sequencer then says how it ended.
IDLE_S: Final = 600.0
HIGH_WATER_BYTES: Final = 256 << 20
_COUNT_S: Final = 1.0
# One token stands for all who have it; the address is a fact beside it.
_SENDER: Final = Sender(pid=0, uid=0, start=0, boot="")


class Segment(Protocol):
    """An emitter's segment; its first frame in each part is its stamp."""

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Write, and with `wait` return when it would survive a power loss; OSError if not."""

    def close(self) -> None:
        """Let go of it; the sequencer may take it as ended."""


class Full(Exception):
    """No room now; the sender has to come again."""


class Unwanted(Exception):
    """What was sent is not taken, nor would it be again."""


@dataclass(slots=True, kw_only=True)
class _Emitter:
    segment: Segment
    used_s: float
    place: Place | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Receiver:
    """Takes frames; safe from many threads.

    Args:
        folder: Where segments lie.
        open_segment: Makes an emitter's segment, given its name and its stamp's frame.
        high_water_bytes: How much may wait there for the sequencer.
        now_s: A clock that never goes back, seconds.
    """

    def __init__(
        self,
        folder: Path,
        open_segment: Callable[[str, bytes], Segment],
        *,
        high_water_bytes: int = HIGH_WATER_BYTES,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._open_segment = folder, open_segment
        self._high_water_bytes, self._now_s = high_water_bytes, now_s
        self._lock = threading.Lock()
        self._emitters: dict[tuple[str, str | None], _Emitter] = {}
        self._counted_s, self._waiting_bytes = now_s() - _COUNT_S, 0

    def take(self, emitter: str, body: bytes, host: str, team: str | None = None) -> None:
        """Take one request's frames; returns when they would survive a power loss.

        Args:
            emitter: 32 hex digits.
            body: Whole frames, of events and of what lies aside.
            host: The address they came from.
            team: Whose token it was; None: the one that all have.

        Raises:
            Full: Too much waits, or the disk has no room.
            Unwanted: Not frames of this emitter, or other bytes than it sent before.
            OSError: They cannot be written.
        """
        scan = read_frames(body)
        if scan.stop or not scan.frames:
            raise Unwanted("not whole frames")
        found = self._entry(emitter, host, team)
        with found.lock:
            place, frames = _decide(emitter, found.place, scan.frames)
            if frames:
                found.segment.write(frames, wait=True)
            found.place = place
        if place.is_closed:
            self._let_go((emitter, team), found)

    def close(self) -> None:
        """Let go of every emitter."""
        with self._lock:
            found, self._emitters = list(self._emitters.values()), {}
        for each in found:
            with each.lock:
                each.segment.close()

    def _entry(self, emitter: str, host: str, team: str | None) -> _Emitter:
        now_s = self._now_s()
        with self._lock:
            self._count(now_s)
            # By team, too: whose the emitter is, the sequencer knows from its first event.
            key = (emitter, team)
            idle = [n for n, e in self._emitters.items() if now_s - e.used_s >= IDLE_S]
            old = [self._emitters.pop(name) for name in idle if name != key]
            found = self._emitters.get(key)
            if found is None:
                if len(self._emitters) >= MAX_EMITTERS:
                    raise Full("too many emitters at once")
                stamp = Stamp(via="http", host=host, login=team).encode()
                segment = self._open_segment(emitter, encode_frame(STAMP, stamp))
                found = self._emitters[key] = _Emitter(segment=segment, used_s=now_s)
            found.used_s = now_s
        for each in old:
            with each.lock:
                each.segment.close()
        return found

    def _let_go(self, key: tuple[str, str | None], found: _Emitter) -> None:
        with self._lock:
            if self._emitters.get(key) is found:
                del self._emitters[key]
        with found.lock:
            found.segment.close()

    def _count(self, now_s: float) -> None:
        if now_s - self._counted_s >= _COUNT_S:
            self._counted_s = now_s
            self._waiting_bytes = _size_of(self._folder)
        if self._waiting_bytes > self._high_water_bytes:
            raise Full("too much waits for the sequencer")


def _decide(emitter: str, place: Place | None, frames: Sequence[Frame]) -> tuple[Place, bytes]:
    """Where the emitter is after these frames, and what of them is to be written."""
    reception = Reception(emitter, place or _begin(frames))
    written, again = [], []
    for frame in frames:
        verdict = reception.take(frame)
        if isinstance(verdict, Refused):
            raise Unwanted(verdict.because)
        # What lies aside of an event that came again came again with it.
        again.append(encode_frame(frame.kind, frame.payload))
        if frame.kind == EVENT:
            if verdict is TAKEN:
                written += again
            again = []
    if again or reception.is_repeating:
        raise Unwanted("it ends before the newest event that was sent before")
    return reception.place, b"".join(written)


def _begin(frames: Sequence[Frame]) -> Place:
    """Where an emitter is of which this process knows nothing: right before its first event."""
    for frame in frames:
        if frame.kind == EVENT:
            try:
                event = parse_event(frame.payload)
            except FormatError as error:
                raise Unwanted(str(error)[:200]) from error
            prev = event.get("prev")
            last = None if prev is None else bytes.fromhex(prev)
            return Place(sender=_SENDER, next_seq=event["seq"], last=last)
    raise Unwanted("no event")


def _size_of(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(_size(entry) for entry in entries)
    except FileNotFoundError:
        return 0


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
