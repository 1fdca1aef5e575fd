"""Read an emitter's segments into the batch that is being made.

Source: AUDIT_TRAIL, Spool and Sequencer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from airflow_secure_ml.core.audit.frame import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    Frame,
    decode_header,
    read_frames,
)
from airflow_secure_ml.core.audit.ports import NewLeaf, Segment, SegmentSource
from airflow_secure_ml.core.audit.stamp import Stamp
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import FormatError
from airflow_secure_ml.services.drafts import Draft
from airflow_secure_ml.services.following import Cursor, Early, Follower, Refusal
from airflow_secure_ml.services.own_events import seen

READ_BYTES = 1 << 20
MAX_BATCH_LEAVES = 5000
# Parsed, a batch takes many times as much.
MAX_BATCH_BYTES = 16 << 20
# Of one emitter; more are counted.
MAX_REFUSALS = 100


class SegmentReader:
    """Reads segments.

    Args:
        segments: The spool.
    """

    def __init__(self, segments: SegmentSource) -> None:
        self._segments = segments

    def read_parts(
        self, draft: Draft, follower: Follower, group: Sequence[Segment], *, is_again: bool = False
    ) -> bool:
        """Read some of each part; returns whether an event that did not fit may fit now.

        Args:
            draft: The batch in the making.
            follower: The emitter.
            group: Its segments, by part.
            is_again: They were read in this step; what was at its end then is let alone.
        """
        before = follower.count
        for segment in group:
            cursor = follower.cursor(segment.token)
            # What is stuck at a later event than the next needs no look.
            is_early = cursor.is_stuck and cursor.stuck_seq > follower.row.next_seq
            if not is_early and not (is_again and cursor.is_at_end):
                self.read(draft, follower, segment)
            if not cursor.is_at_end and not cursor.is_stuck:
                # There is more of it, and what a later part holds comes after that.
                return False
        is_stuck = any(follower.cursor(segment.token).is_stuck for segment in group)
        return is_stuck and follower.count != before

    def read(
        self, draft: Draft, follower: Follower, segment: Segment, *, take_early: bool = False
    ) -> None:
        """Put a segment's next frames into the draft, as far as they fit.

        Args:
            draft: The batch in the making.
            follower: The segment's emitter.
            segment: The segment.
            take_early: One event that does not fit is taken, and leaves a gap.
        """
        cursor = follower.cursor(segment.token)
        if segment.size_bytes < cursor.at:
            # It was shortened. Read from its beginning: what is in the log is dropped anyway.
            cursor.at = 0
        if not self._read_header(draft, segment, cursor):
            return
        start = cursor.at
        cursor.is_stuck, cursor.is_at_end = False, False
        if start < segment.size_bytes and _is_full(draft):
            draft.has_more = True
            return
        data = self._segments.read(segment.token, start, READ_BYTES)
        scan = read_frames(data)
        is_done = self._take(draft, follower, segment, scan.frames, take_early=take_early)
        if cursor.at != start:
            follower.row = replace(follower.row, part=segment.part, at=cursor.at)
            if follower.is_found:
                draft.changed[follower.row.id] = follower.row
        if is_done:
            # A frame is at most 32 KiB: where none of 1 MiB is whole, none will be.
            cursor.is_at_end = len(data) < READ_BYTES or not scan.frames
            draft.has_more = draft.has_more or not cursor.is_at_end

    def _take(
        self,
        draft: Draft,
        follower: Follower,
        segment: Segment,
        frames: Sequence[Frame],
        *,
        take_early: bool,
    ) -> bool:
        """Put frames into the draft; returns whether all of them."""
        cursor = follower.cursor(segment.token)
        for frame in frames:
            if _is_full(draft):
                draft.has_more = True
                return False
            decision = (
                follower.decide_stamped(frame, cursor, draft.known, take_early=take_early)
                if segment.is_stamped
                else follower.decide(frame, draft.known, take_early=take_early)
            )
            if isinstance(decision, Early):
                cursor.is_stuck, cursor.stuck_seq = True, decision.seq
                return False
            take_early = False
            self._keep(draft, follower, segment, decision)
            cursor.at += FRAME_HEAD_BYTES + len(frame.payload)
        return True

    def _read_header(self, draft: Draft, segment: Segment, cursor: Cursor) -> bool:
        """Whether frames can be read; a file that is not what its name says is refused whole."""
        if cursor.at or cursor.is_foreign:
            return not cursor.is_foreign
        try:
            header = decode_header(self._segments.read(segment.token, 0, HEADER_BYTES))
        except FormatError:
            # Perhaps still being written; what it holds counts as torn once its writer is gone.
            cursor.is_at_end = True
            return False
        if (header.emitter, header.part) != (segment.emitter, segment.part):
            self.refuse_whole(draft, segment, "its header names another emitter or part")
            cursor.is_foreign = cursor.is_at_end = True
            return False
        cursor.at = HEADER_BYTES
        return True

    def _keep(
        self,
        draft: Draft,
        follower: Follower,
        segment: Segment,
        decision: object,
    ) -> None:
        """Put what was decided into the draft."""
        if isinstance(decision, NewLeaf):
            # Once more before its first event, of which another sequencer knows it by: one that
            # ended without a word was found before.
            follower.is_found = follower.is_found and follower.count > 1
            say_found(draft, follower, segment.owner_uid)
            draft.put(decision)
        elif isinstance(decision, Aside):
            draft.hide(decision)
        elif isinstance(decision, Refusal):
            follower.refused += 1
            # Rubbish by the million would make the log as large, and each look-up as slow.
            if follower.refused > MAX_REFUSALS:
                return
            at = follower.cursor(segment.token).at
            draft.refuse(decision, segment, at, self._segments.keep_refused)

    def refuse_whole(self, draft: Draft, segment: Segment, because: str) -> None:
        """Refuse all of a segment; it goes once that is in the log."""
        data = self._segments.read(segment.token, 0, READ_BYTES)
        refusal = Refusal(data=data, why="context_differs", because=because)
        draft.refuse(refusal, segment, 0, self._segments.keep_refused)
        draft.done.append(segment)


def _is_full(draft: Draft) -> bool:
    return len(draft.leaves) >= MAX_BATCH_LEAVES or draft.held_bytes >= MAX_BATCH_BYTES


def _sender(stamp: Stamp | None) -> dict[str, Any]:
    if stamp is None:
        return {}
    found = {"pid": stamp.pid, "uid": stamp.uid, "via": stamp.via, "login": stamp.login}
    return found if stamp.host is None else {**found, "host": stamp.host}


def say_found(draft: Draft, follower: Follower, owner_uid: int | None) -> None:
    """Say that an emitter was found, unless that was said."""
    if follower.is_found:
        return
    follower.is_found = True
    fact = seen(
        "trail.emitter",
        emitter=follower.row.id,
        owner_uid=owner_uid,
        **{"host": draft.me.host.name, **_sender(follower.stamp)},
        state="found",
    )
    draft.say(fact)
