"""Put the events of many emitters into one log, in one transaction a step.

A step reads what segments hold, decides frame by frame, adds one batch and only then removes what
is whole in the log. If the batch fails, everything is read again: nothing is lost, nothing twice.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.frame import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    decode_header,
    read_frames,
)
from airflow_secure_ml.core.audit.ports import (
    EmitterRow,
    LogWriter,
    NewLeaf,
    Segment,
    SegmentSource,
)
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import FormatError
from airflow_secure_ml.services.drafts import Draft, Self
from airflow_secure_ml.services.following import Early, Follower, Refusal
from airflow_secure_ml.services.own_events import Clock, Host, OwnEmitter, seen

READ_BYTES = 1 << 20
MAX_BATCH_LEAVES = 5000
# Of one emitter; more are counted.
MAX_REFUSALS = 100
# A writer makes a file, then locks it; between two parts it holds neither.
GRACE_MS = 1000
WAIT_MS = 60_000
BEAT_MS = 300_000
_OWN = ("sequencer", "sequencer_ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step did.

    Attributes:
        appended: Leaves added.
        segments: Segments that are still there.
        has_more: Whether the next step should follow at once.
    """

    appended: int
    segments: int
    has_more: bool


class Sequencer:
    """The one process that adds to a log.

    Args:
        log: The log; nobody else writes it.
        segments: The spool.
        clock: Wall clock and monotonic clock.
        host: What it says of itself.
        random_bytes: Gives the 16 bytes of its own emitter.
    """

    def __init__(
        self,
        *,
        log: LogWriter,
        segments: SegmentSource,
        clock: Clock,
        host: Host,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._log, self._segments, self._clock = log, segments, clock
        opened = clock.mono_ms()
        self._me = Self(emitter=random_bytes(16).hex(), host=host, clock=clock, opened_ms=opened)
        self._beat_ms = opened
        self._turn = 0
        self._load()

    def step(self, *, is_last: bool = False) -> Step:
        """Read, decide, append, remove; once.

        Args:
            is_last: Nothing is waited for any more: who holds no lock has ended.

        Raises:
            ServiceUnavailableError: The log cannot be written now; the next step begins anew.
            AuditLogError: The log is not what this sequencer left.
        """
        draft = self._draft()
        try:
            self._begin(draft)
            found = self._segments.scan()
            for emitter, group in self._in_turn(found):
                self._follow(draft, emitter, group, is_last=is_last)
            # Live in the log and nowhere in the spool: its segments were removed unread.
            for emitter in self._followers.keys() - {segment.emitter for segment in found}:
                self._end_if_due(draft, self._followers[emitter], [], is_last=is_last)
            self._beat(draft, found)
            self._commit(draft)
        except BaseException:
            self._load()
            raise
        self._turn += draft.has_more
        self._segments.remove([segment.token for segment in draft.done])
        self._forget(draft.done)
        left = len(found) - len(draft.done)
        return Step(appended=len(draft.leaves), segments=left, has_more=draft.has_more)

    def record(self, fact: Fact) -> None:
        """Add a fact of the sequencer's own, such as an alert, in a batch of its own."""
        draft = self._draft()
        self._begin(draft)
        draft.say(fact)
        self._commit(draft)

    def close(self) -> None:
        """Say that this sequencer ends; nothing if it never said anything."""
        draft = self._draft()
        draft.end_self()
        self._commit(draft)

    def _load(self) -> None:
        """Take everything from the log; what was decided since the last batch is forgotten."""
        rows = self._log.emitters()
        self._own: OwnEmitter | None = None
        self._forerunners: list[EmitterRow] = []
        self._sequencers = {self._me.emitter}
        self._rows: dict[str, EmitterRow] = {}
        self._followers: dict[str, Follower] = {}
        for row in rows:
            if row.id == self._me.emitter:
                self._own = OwnEmitter(row=row, opened_ms=self._me.opened_ms)
            elif row.state in _OWN:
                self._sequencers.add(row.id)
                if row.state == "sequencer":
                    self._forerunners.append(row)
            else:
                self._rows[row.id] = row
                if row.state in {"live", "gap"}:
                    self._follower(row.id)

    def _in_turn(self, found: Sequence[Segment]) -> list[tuple[str, list[Segment]]]:
        """Segments by emitter, another one first after each batch that did not take all."""
        by_emitter = groupby(found, key=lambda segment: segment.emitter)
        groups = [(emitter, list(group)) for emitter, group in by_emitter]
        first = self._turn % len(groups) if groups else 0
        return groups[first:] + groups[:first]

    def _draft(self) -> Draft:
        return Draft(me=self._me, log=self._log, own=self._own)

    def _begin(self, draft: Draft) -> None:
        if self._log.edge().size == 0:
            draft.say(seen("trail.start", format=1, origin=self._log.origin()))
        for row in self._forerunners:
            draft.say(_ended(row, state="cut", events=row.next_seq, torn_bytes=0))
            draft.changed[row.id] = replace(row, state="sequencer_ended")

    def _follower(self, emitter: str) -> Follower:
        if emitter not in self._followers:
            row = self._rows.get(emitter)
            self._followers[emitter] = Follower(
                row=row or EmitterRow(id=emitter),
                count=0 if row is None else self._log.event_count(emitter),
                is_found=row is not None,
                is_changed=row is not None and row.state in {"live", "gap"},
            )
        return self._followers[emitter]

    def _follow(
        self, draft: Draft, emitter: str, group: Sequence[Segment], *, is_last: bool
    ) -> None:
        if emitter in self._sequencers:
            for segment in group:
                self._refuse_whole(draft, segment, "a segment in a sequencer's name")
            return
        follower = self._follower(emitter)
        # An event in a later part may free one that an earlier part is stuck at.
        while self._read_parts(draft, follower, group):
            continue
        while self._is_overdue(follower, group):
            stuck = [s for s in group if follower.cursor(s.token).is_stuck]
            first = min(stuck, key=lambda s: follower.cursor(s.token).stuck_seq)
            self._read(draft, follower, first, take_early=True)
            self._read_parts(draft, follower, group)
        self._end_if_due(draft, follower, group, is_last=is_last)

    def _read_parts(self, draft: Draft, follower: Follower, group: Sequence[Segment]) -> bool:
        """Read some of each part; returns whether an event that did not fit may fit now."""
        before = follower.count
        for segment in group:
            self._read(draft, follower, segment)
            cursor = follower.cursor(segment.token)
            if not cursor.is_at_end and not cursor.is_stuck:
                # There is more of it, and what a later part holds comes after that.
                return False
        is_stuck = any(follower.cursor(segment.token).is_stuck for segment in group)
        return is_stuck and follower.count != before

    def _read(
        self, draft: Draft, follower: Follower, segment: Segment, *, take_early: bool = False
    ) -> None:
        cursor = follower.cursor(segment.token)
        if segment.size_bytes < cursor.at:
            # It was shortened. Read from its beginning: what is in the log is dropped anyway.
            cursor.at = 0
        if not self._read_header(draft, segment, cursor):
            return
        data = self._segments.read(segment.token, cursor.at, READ_BYTES)
        scan = read_frames(data)
        cursor.is_stuck, cursor.is_at_end = False, False
        for frame in scan.frames:
            if len(draft.leaves) >= MAX_BATCH_LEAVES:
                draft.has_more = True
                return
            decision = follower.decide(frame, draft.known, take_early=take_early)
            if isinstance(decision, Early):
                cursor.is_stuck, cursor.stuck_seq = True, decision.seq
                return
            take_early = False
            self._keep(draft, follower, segment, decision)
            cursor.at += FRAME_HEAD_BYTES + len(frame.payload)
            follower.row = replace(follower.row, part=segment.part, at=cursor.at)
            if follower.is_found:
                draft.changed[follower.row.id] = follower.row
        # A frame is at most 32 KiB: where none of 1 MiB is whole, none will be.
        cursor.is_at_end = len(data) < READ_BYTES or not scan.frames
        draft.has_more = draft.has_more or not cursor.is_at_end

    def _read_header(self, draft: Draft, segment: Segment, cursor: Cursor) -> bool:
        """Whether frames can be read; a file that is not what its name says is refused whole."""
        if cursor.at:
            return not cursor.is_foreign
        try:
            header = decode_header(self._segments.read(segment.token, 0, HEADER_BYTES))
        except FormatError:
            # Perhaps still being written; what it holds counts as torn once its writer is gone.
            cursor.is_at_end = True
            return False
        if (header.emitter, header.part) != (segment.emitter, segment.part):
            self._refuse_whole(draft, segment, "its header names another emitter or part")
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
            self._say_found(draft, follower, segment.owner_uid)
            draft.put(decision)
        elif isinstance(decision, Aside):
            draft.asides.append(decision)
        elif isinstance(decision, Refusal):
            follower.refused += 1
            # Rubbish by the million would make the log as large, and each look-up as slow.
            if follower.refused > MAX_REFUSALS:
                return
            at = follower.cursor(segment.token).at
            draft.refuse(decision, segment, at, self._segments.keep_refused)

    def _refuse_whole(self, draft: Draft, segment: Segment, because: str) -> None:
        data = self._segments.read(segment.token, 0, READ_BYTES)
        refusal = Refusal(data=data, why="context_differs", because=because)
        draft.refuse(refusal, segment, 0, self._segments.keep_refused)
        draft.done.append(segment)

    def _say_found(self, draft: Draft, follower: Follower, owner_uid: int | None) -> None:
        if follower.is_found:
            return
        follower.is_found = True
        fact = seen(
            "trail.emitter",
            emitter=follower.row.id,
            host=self._me.host.name,
            owner_uid=owner_uid,
            state="found",
        )
        draft.say(fact)

    def _is_overdue(self, follower: Follower, group: Sequence[Segment]) -> bool:
        """Whether an event that does not fit was waited for long enough."""
        is_stuck = any(follower.cursor(segment.token).is_stuck for segment in group)
        if not is_stuck or any(segment.is_held for segment in group):
            follower.waits_since_ms = None
            return False
        now = self._clock.mono_ms()
        if follower.waits_since_ms is None:
            follower.waits_since_ms = now
        return now - follower.waits_since_ms >= WAIT_MS

    def _end_if_due(
        self, draft: Draft, follower: Follower, group: Sequence[Segment], *, is_last: bool
    ) -> None:
        """Record an emitter's end once nobody writes and nothing is left; free its segments."""
        real = [s for s in group if not follower.cursor(s.token).is_foreign]
        if group and not real:
            return
        ends = [follower.cursor(segment.token).is_at_end for segment in real]
        if any(segment.is_held for segment in real) or not all(ends):
            follower.quiet_since_ms = None
            self._free_older(draft, follower, real)
            return
        now = self._clock.mono_ms()
        if follower.quiet_since_ms is None:
            follower.quiet_since_ms = now
        is_due = follower.is_closed or is_last or now - follower.quiet_since_ms >= GRACE_MS
        if not is_due:
            return
        for segment in real:
            self._free(draft, follower, segment)
        if follower.is_changed or not follower.is_found:
            self._say_end(draft, follower, real)

    def _free_older(self, draft: Draft, follower: Follower, group: Sequence[Segment]) -> None:
        """A part that is read to its end, held by nobody, with a later one, is not needed."""
        newest = max((segment.part for segment in group), default=0)
        for segment in group:
            is_read = follower.cursor(segment.token).is_at_end
            if is_read and not segment.is_held and segment.part < newest:
                self._free(draft, follower, segment)

    def _free(self, draft: Draft, follower: Follower, segment: Segment) -> None:
        at = follower.cursor(segment.token).at
        follower.torn_bytes += max(segment.size_bytes - at, 0)
        draft.done.append(segment)

    def _say_end(self, draft: Draft, follower: Follower, group: Sequence[Segment]) -> None:
        self._say_found(draft, follower, group[0].owner_uid if group else None)
        state = follower.end_state()
        draft.say(
            _ended(follower.row, state=state, events=follower.count, torn_bytes=follower.torn_bytes)
        )
        follower.is_changed = False
        kept = "gap_ended" if state == "gap" else state
        follower.row = draft.changed[follower.row.id] = replace(follower.row, state=kept)

    def _beat(self, draft: Draft, found: Sequence[Segment]) -> None:
        now = self._clock.mono_ms()
        if now - self._beat_ms < BEAT_MS:
            return
        self._beat_ms = now
        cursors = {key: c for f in self._followers.values() for key, c in f.cursors.items()}
        left = {s.token: s.size_bytes - cursors[s.token].at for s in found if s.token in cursors}
        draft.say(
            seen(
                "trail.beat",
                size=self._log.edge().size + len(draft.leaves),
                emitters=len({segment.emitter for segment in found}),
                waiting=sum(1 for count in left.values() if count > 0),
                waiting_bytes=sum(count for count in left.values() if count > 0),
            )
        )

    def _commit(self, draft: Draft) -> None:
        batch = draft.batch()
        if batch is None:
            return
        self._log.append(batch)
        self._own = draft.own
        self._rows.update(draft.changed)
        self._forerunners = []

    def _forget(self, done: Sequence[Segment]) -> None:
        for segment in done:
            follower = self._followers.get(segment.emitter)
            if follower is not None:
                follower.cursors.pop(segment.token, None)
        ended = [
            emitter
            for emitter, follower in self._followers.items()
            if not follower.cursors and not follower.is_changed and follower.is_found
        ]
        for emitter in ended:
            del self._followers[emitter]


def _ended(
    row: EmitterRow, *, state: str, events: int, torn_bytes: int, because: str | None = None
) -> Fact:
    return seen(
        "trail.emitter",
        emitter=row.id,
        state=state,
        events=events,
        last=None if row.last is None else row.last.hex(),
        torn_bytes=torn_bytes,
        because=because,
    )
