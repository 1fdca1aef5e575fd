"""Decide, frame by frame, what a receiver takes from the one sender of an emitter.

Decides alone: who sent, where it goes and when it is durable is the receiver's business. What an
emitter has said cannot be taken back, said twice or said by another; nothing here grows with what
is sent.

Source: AUDIT_TRAIL, Spool and Sequencer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.frame import ASIDE, EVENT, Frame
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.errors import FormatError

# Only the sequencer may say these: a task that could would pass judgement on itself.
RESERVED_ACTS = frozenset(
    {
        *("trail.start", "trail.emitter", "trail.refused", "trail.beat", "trail.key"),
        *("trail.prune", "trail.hold"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A process, told apart from any other that ever had its id.

    Attributes:
        pid: Its id.
        uid: Its user.
        start: When it started, in the kernel's ticks since boot.
        boot: Which boot of the machine that was.
    """

    pid: int
    uid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far an emitter is.

    Attributes:
        sender: Who opened it; nobody else ever speaks for it.
        next_seq: Number of its next event.
        last: Leaf hash of its newest event; None: it said nothing yet.
        is_closed: Whether that is emitter.close.
    """

    sender: Sender
    next_seq: int = 0
    last: bytes | None = None
    is_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A frame that is not taken; its sender is not listened to any more.

    Attributes:
        because: What is wrong, in a few words.
        is_kept: Whether the frame goes into the segment all the same, since the sequencer will
            refuse it there, say so in the log, and keep its bytes.
    """

    because: str
    is_kept: bool = False


class Taken:
    """A frame that belongs behind what is there."""


class Again:
    """A frame that is there already."""


TAKEN, AGAIN = Taken(), Again()
Verdict = Taken | Again | Refused


class Reception:
    """One emitter, from its sender, over one connection.

    Args:
        emitter: 32 hex digits.
        place: How far it is.
    """

    def __init__(self, emitter: str, place: Place) -> None:
        self.emitter, self.place = emitter, place
        # The leaf hash before, while events that are there already come again.
        self._repeated: tuple[int, bytes] | None = None

    @property
    def is_repeating(self) -> bool:
        """Whether what came again has not yet been followed to the newest event."""
        return self._repeated is not None

    def take(self, frame: Frame) -> Verdict:
        """Decide on one frame; an event that is taken moves `place` on."""
        if frame.kind == ASIDE:
            return TAKEN
        if frame.kind != EVENT:
            return Refused(because=f"a frame of kind {frame.kind}")
        try:
            event = parse_event(frame.payload)
        except FormatError as error:
            return Refused(because=str(error)[:200], is_kept=True)
        if event["emitter"] != self.emitter:
            return Refused(because="an event in another emitter's name", is_kept=True)
        if event["act"] in RESERVED_ACTS:
            return Refused(because=f"{event['act']}: only the sequencer says this", is_kept=True)
        return self._place(event, leaf_hash(frame.payload))

    def _place(self, event: Mapping[str, Any], found: bytes) -> Verdict:
        seq, place = event["seq"], self.place
        if seq < place.next_seq:
            return self._repeat(event, found)
        if self._repeated is not None or seq > place.next_seq:
            return Refused(because=f"event {seq} before event {self._awaited()}")
        if place.is_closed:
            return Refused(because="an event after emitter.close")
        if event.get("prev") != (None if place.last is None else place.last.hex()):
            return Refused(because=f"event {seq} does not name the one before it")
        is_closed = event["act"] == "emitter.close"
        self.place = replace(place, next_seq=seq + 1, last=found, is_closed=is_closed)
        return TAKEN

    def _awaited(self) -> int:
        return self.place.next_seq if self._repeated is None else self._repeated[0] + 1

    def _repeat(self, event: Mapping[str, Any], found: bytes) -> Verdict:
        """Follow what comes again by its own chain: where that ends in `last`, all of it is ours.

        So no hash of an older event has to be kept, however many there were.
        """
        seq, before = event["seq"], self._repeated
        if before is not None and (seq, event.get("prev")) != (before[0] + 1, before[1].hex()):
            return Refused(because=f"event {seq} does not follow what came again before it")
        if seq < self.place.next_seq - 1:
            self._repeated = (seq, found)
            return AGAIN
        self._repeated = None
        if found != self.place.last:
            return Refused(because=f"another event {seq} than was sent before", is_kept=True)
        return AGAIN
