"""Follow one emitter's segments and decide which of its frames become leaves.

Decides alone: frames in, decisions out; what is read and what is stored is the sequencer's
business. An emitter that breaks the rules holds up nobody but itself.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.frame import ASIDE, EVENT, STAMP, Frame
from airflow_secure_ml.core.audit.ports import EmitterRow, NewLeaf
from airflow_secure_ml.core.audit.receiving import RESERVED_ACTS
from airflow_secure_ml.core.audit.stamp import Stamp, decode_stamp, found_stamp
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import Aside, gives_hash
from airflow_secure_ml.errors import FormatError

# (emitter, seq) → leaf hash of an event that is in the log, or in the batch being made.
KnownHash = Callable[[str, int], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Bytes that do not become a leaf.

    Attributes:
        data: The bytes.
        why: A code of AUDIT_TRAIL's list.
        because: What is wrong, in a few words.
        seq: The event's number, where it could be read.
    """

    data: bytes
    why: str
    because: str
    seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """An event that does not follow the one before it; it may have to wait.

    Attributes:
        seq: Its number.
    """

    seq: int


class Duplicate:
    """An event that is in the log already, byte for byte."""


Decision = NewLeaf | Aside | Refusal | Early | Duplicate | Stamp


@dataclass(slots=True, kw_only=True)
class Cursor:
    """How far one segment was read.

    Attributes:
        at: Bytes read; 0 until its header was.
        is_stuck: The frame at `at` is an event that does not fit.
        stuck_seq: That event's seq.
        is_at_end: Nothing more could be read when it was last looked at.
        is_foreign: Its header does not fit its name; none of it is believed.
        stamp: Who sent what follows, where a receiver wrote it; found in its first frame.
    """

    at: int = 0
    is_stuck: bool = False
    stuck_seq: int = 0
    is_at_end: bool = False
    is_foreign: bool = False
    stamp: Stamp | None = None


@dataclass(slots=True, kw_only=True)
class Follower:
    """One emitter, as far as the log and its segments tell.

    Attributes:
        row: Its row after all decisions so far.
        count: How many of its events are in the log.
        is_found: Whether trail.emitter `found` was said.
        is_closed: Whether the newest event that was read is emitter.close.
        is_changed: Whether an event was added since its end was last recorded.
        torn_bytes: Bytes of its removed segments that were no whole frame.
        cursors: By segment token.
        refused: How many of its frames were refused.
        waits_since_ms: Since when an event waits without a lock being held.
        quiet_since_ms: Since when nobody holds a lock and nothing is left to read.
        stamp: Who sent its first event, where a receiver wrote it; an emitter has one sender.
        is_stamped: Whether a receiver writes its segments; None: nothing of it was read yet.
        is_cut_off: What it said first was pruned, and who sends for it went with that.
    """

    row: EmitterRow
    count: int = 0
    is_found: bool = False
    is_closed: bool = False
    is_changed: bool = False
    torn_bytes: int = 0
    cursors: dict[str, Cursor] = field(default_factory=dict)
    refused: int = 0
    waits_since_ms: int | None = None
    quiet_since_ms: int | None = None
    stamp: Stamp | None = None
    is_stamped: bool | None = None
    is_cut_off: bool = False

    def cursor(self, token: str) -> Cursor:
        """How far a segment was read; a new one from its beginning."""
        return self.cursors.setdefault(token, Cursor())

    def decide_stamped(
        self, frame: Frame, cursor: Cursor, known: KnownHash, *, take_early: bool = False
    ) -> Decision:
        """Decide on one frame of a segment that a receiver wrote: nothing counts without a stamp.

        Args:
            frame: The frame.
            cursor: Its segment's.
            known: As in `decide`.
            take_early: As in `decide`.
        """
        if frame.kind == STAMP:
            return self._take_stamp(frame.payload, cursor)
        if cursor.stamp is None:
            return _refuse(frame.payload, "context_differs", "no stamp says who sent it")
        return self.decide(frame, known, take_early=take_early)

    def _take_stamp(self, payload: bytes, cursor: Cursor) -> Stamp | Refusal:
        try:
            stamp = decode_stamp(payload)
        except FormatError as error:
            return _refuse(payload, "not_checkable", str(error))
        if self.stamp is not None and not stamp.is_sender_of(self.stamp):
            cursor.stamp = None
            return _refuse(payload, "context_differs", "another sender than the emitter's")
        self.stamp = cursor.stamp = stamp
        return stamp

    def decide(self, frame: Frame, known: KnownHash, *, take_early: bool = False) -> Decision:
        """Decide on one frame; a leaf also moves the emitter's row on.

        Args:
            frame: The frame.
            known: Looks an event up by its name.
            take_early: An event that does not fit is taken, and leaves a gap.
        """
        if frame.kind == STAMP:
            return _refuse(frame.payload, "rule_denied", "a stamp in a spool of emitters' own")
        if frame.kind == ASIDE:
            return _aside(frame.payload)
        if frame.kind != EVENT:
            return _refuse(frame.payload, "misconfigured", f"frame of kind {frame.kind}")
        try:
            event = parse_event(frame.payload)
        except FormatError as error:
            return _refuse(frame.payload, "not_checkable", str(error))
        if event["emitter"] != self.row.id:
            return _refuse(frame.payload, "context_differs", "names another emitter", event)
        if event["act"] in RESERVED_ACTS:
            return _refuse(frame.payload, "rule_denied", "only the sequencer says this", event)
        return self._place(frame.payload, event, known, take_early=take_early)

    def _place(
        self, data: bytes, event: dict[str, Any], known: KnownHash, *, take_early: bool
    ) -> Decision:
        seq, found = event["seq"], leaf_hash(data)
        # From `next_seq` on none is in the log: the row and its leaves are written together.
        before = known(self.row.id, seq) if seq < self.row.next_seq else None
        if before == found:
            if seq == self.row.next_seq - 1:
                self.is_closed = event["act"] == "emitter.close"
            return Duplicate()
        if before is not None:
            return _refuse(
                data, "digest_differs", "another event of this name is in the log", event
            )
        # Only an emitter with a gap has holes that may still be filled.
        if seq < self.row.next_seq and self.row.state not in {"gap", "gap_ended"}:
            return _refuse(data, "rule_denied", "an event of this name was pruned", event)
        if self.is_cut_off:
            return _refuse(data, "rule_denied", "what its emitter said first was pruned", event)
        prev = None if self.row.last is None else self.row.last.hex()
        fits = seq == self.row.next_seq and event.get("prev") == prev
        if not fits and not take_early and seq >= self.row.next_seq:
            return Early(seq=seq)
        self._advance(event, found, fits=fits)
        return NewLeaf(data=data, hash=found, event=event)

    def _advance(self, event: dict[str, Any], found: bytes, *, fits: bool) -> None:
        row, next_seq, last = self.row, self.row.next_seq, self.row.last
        # An event that fills a hole late does not become the newest.
        if event["seq"] >= next_seq:
            next_seq, last = event["seq"] + 1, found
            self.is_closed = event["act"] == "emitter.close"
        self.row = replace(
            row,
            next_seq=next_seq,
            last=last,
            state="live" if fits and row.state not in {"gap", "gap_ended"} else "gap",
            first_ms=row.first_ms if self.count else event["time"],
            last_ms=event["time"],
        )
        self.count += 1
        self.is_changed = True

    def end_state(self) -> str:
        """How the emitter ended: gap, whole, torn or cut."""
        if self.row.state in {"gap", "gap_ended"}:
            return "gap"
        if self.is_closed:
            return "whole"
        return "torn" if self.torn_bytes else "cut"


def follow_on(row: EmitterRow, count: int, found: bytes | None, *, is_pruned: bool) -> Follower:
    """Follow an emitter that is in the log, as the log alone tells.

    Args:
        row: Its row.
        count: How many of its events are in the log.
        found: The leaf before the first of them.
        is_pruned: Whether leaves of this log were pruned.
    """
    more = _more_of_found(row.id, found)
    return Follower(
        row=row,
        count=count,
        is_found=True,
        is_changed=row.state in {"live", "gap"},
        stamp=None if more is None else found_stamp(more),
        is_stamped=None if more is None else "via" in more,
        is_cut_off=more is None and is_pruned and row.next_seq > 0,
    )


def _more_of_found(emitter: str, data: bytes | None) -> dict[str, Any] | None:
    """What the sequencer said when it found an emitter; None: the leaf is another one."""
    if data is None:
        return None
    event = json.loads(data)
    more = event.get("more", {})
    is_it = event["act"] == "trail.emitter" and more.get("state") == "found"
    return dict(more) if is_it and more.get("emitter") == emitter else None


def _refuse(data: bytes, why: str, because: str, event: dict[str, Any] | None = None) -> Refusal:
    return Refusal(data=data, why=why, because=because, seq=None if event is None else event["seq"])


def _aside(payload: bytes) -> Aside | Refusal:
    try:
        record = canonical.decode(payload)
        found = Aside(h=record["h"], salt=record["salt"], value=record["value"])
        salt = bytes.fromhex(found.salt)
        if salt.hex() == found.salt and gives_hash(found.value, salt, found.h):
            return found
    except (FormatError, KeyError, TypeError, ValueError, AttributeError):
        return _refuse(b"", "not_checkable", "a hidden value that is not in the documented form")
    return _refuse(b"", "digest_differs", "a hidden value that does not give its hash")
