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
from airflow_secure_ml.core.audit.ports import (
    EmitterRow,
    LogWriter,
    Segment,
    SegmentSource,
)
from airflow_secure_ml.core.canonical import MAX_INTEGER
from airflow_secure_ml.services.drafts import Draft, Self
from airflow_secure_ml.services.following import Follower, follow_on
from airflow_secure_ml.services.own_events import Clock, Host, OwnEmitter, seen
from airflow_secure_ml.services.reading import MAX_REFUSALS, SegmentReader, say_found

# A writer makes a file, then locks it; between two parts it holds neither.
GRACE_MS = 1000
WAIT_MS = 60_000
BEAT_MS = 300_000
# Of a spool that fills faster than it is taken in, or waits for events that do not come.
HIGH_WATER_BYTES, LOW_WATER_BYTES = 256 << 20, 64 << 20
# Through the parts of one emitter in a step: thousands in the wrong order hold up nobody else.
MAX_PASSES = 100
_OWN = ("sequencer", "sequencer_ended")
# What is followed or to be ended; all others are looked up when something of them comes.
_OPEN = ("live", "gap", "sequencer")


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
        self._is_stale = False
        self._reader = SegmentReader(segments)
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
            self._is_stale = True
            raise
        self._turn += draft.has_more
        self._segments.remove([segment.token for segment in draft.done])
        self._forget(draft.done)
        left = len(found) - len(draft.done)
        return Step(appended=len(draft.leaves), segments=left, has_more=draft.has_more)

    def record(self, fact: Fact) -> str:
        """Add a fact of the sequencer's own, in a batch of its own; returns its event's name."""
        draft = self._draft()
        self._begin(draft)
        draft.say(fact)
        said = draft.leaves[-1].event
        self._commit(draft)
        return f"{said['emitter']}:{said['seq']}"

    def record_last(self, make: Callable[[int], Fact]) -> None:
        """Add a fact that says how many leaves there are with it, which is the newest of them."""
        draft = self._draft()
        self._begin(draft)
        draft.introduce()
        draft.say(make(self._log.edge().size + len(draft.leaves) + 1))
        self._commit(draft)

    def close(self) -> None:
        """Say that this sequencer ends; nothing if it never said anything."""
        draft = self._draft()
        draft.end_self()
        self._commit(draft)

    def _load(self) -> None:
        """Take everything from the log; what was decided since the last batch is forgotten."""
        rows = self._log.emitters(_OPEN)
        self._is_high = False
        self._own: OwnEmitter | None = None
        self._forerunners: list[EmitterRow] = []
        self._followers: dict[str, Follower] = {}
        for row in rows:
            if row.id == self._me.emitter:
                self._own = OwnEmitter(row=row, opened_ms=self._me.opened_ms)
            elif row.state in _OWN:
                self._forerunners.append(row)
            else:
                self._follow_on(row)

    def _in_turn(self, found: Sequence[Segment]) -> list[tuple[str, list[Segment]]]:
        """Segments by emitter, another one first after each batch that did not take all."""
        by_emitter = groupby(found, key=lambda segment: segment.emitter)
        groups = [(emitter, list(group)) for emitter, group in by_emitter]
        first = self._turn % len(groups) if groups else 0
        return groups[first:] + groups[:first]

    def _draft(self) -> Draft:
        """What the next batch begins with; after a fault, from what the log holds now.

        A batch whose confirmation was lost may stand in it, and another sequencer may have
        written in between.
        """
        if self._is_stale:
            self._load()
            self._is_stale = False
        return Draft(me=self._me, log=self._log, own=self._own)

    def _begin(self, draft: Draft) -> None:
        if self._log.edge().size == 0:
            draft.say(seen("trail.start", format=1, origin=self._log.origin()))
        for row in self._forerunners:
            draft.say(_ended(row, state="cut", events=row.next_seq, torn_bytes=0))
            draft.changed[row.id] = replace(row, state="sequencer_ended")

    def _follower(self, emitter: str) -> Follower | None:
        """Who follows an emitter; None: the name is a sequencer's, whose events are no segment."""
        found = self._followers.get(emitter)
        if found is not None:
            return found
        row = self._log.emitter(emitter)
        if emitter == self._me.emitter or (row is not None and row.state in _OWN):
            return None
        if row is not None:
            return self._follow_on(row)
        new = Follower(row=EmitterRow(id=emitter), count=0, is_found=False, is_changed=False)
        return self._followers.setdefault(emitter, new)

    def _follow_on(self, row: EmitterRow) -> Follower:
        """Follow an emitter that is in the log."""
        found = self._followers[row.id] = follow_on(
            row,
            self._log.event_count(row.id),
            self._log.found(row.id),
            is_pruned=self._log.first_leaf() > 0,
        )
        return found

    def _follow(
        self, draft: Draft, emitter: str, group: Sequence[Segment], *, is_last: bool
    ) -> None:
        follower = self._follower(emitter)
        if follower is None:
            for segment in group:
                self._reader.refuse_whole(draft, segment, "a segment in a sequencer's name")
            return
        group = self._of_one_kind(draft, follower, group)
        passes = 0
        while self._read_on(draft, follower, group, is_again=passes > 0):
            passes += 1
            if passes == MAX_PASSES:
                draft.has_more = True
                break
        self._end_if_due(draft, follower, group, is_last=is_last)

    def _of_one_kind(
        self, draft: Draft, follower: Follower, group: Sequence[Segment]
    ) -> Sequence[Segment]:
        """The segments that are where the emitter's first were; others could speak in its name."""
        if group and follower.is_stamped is None:
            # A receiver gives an emitter to one sender; a spool's file may be anybody's.
            follower.is_stamped = any(segment.is_stamped for segment in group)
        for segment in group:
            if segment.is_stamped != follower.is_stamped:
                self._reader.refuse_whole(draft, segment, "a segment where its emitter's are not")
        return [segment for segment in group if segment.is_stamped == follower.is_stamped]

    def _read_on(
        self, draft: Draft, follower: Follower, group: Sequence[Segment], *, is_again: bool
    ) -> bool:
        """Read once through an emitter's parts; returns whether another look may bring more."""
        # An event in a later part may free one that an earlier part is stuck at.
        if self._reader.read_parts(draft, follower, group, is_again=is_again):
            return True
        if not self._is_overdue(follower, group):
            return False
        stuck = [s for s in group if follower.cursor(s.token).is_stuck]
        first = min(stuck, key=lambda s: follower.cursor(s.token).stuck_seq)
        self._reader.read(draft, follower, first, take_early=True)
        return True

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
        torn_bytes = follower.torn_bytes + max(segment.size_bytes - at, 0)
        # A sparse file may be longer than an event's numbers reach.
        follower.torn_bytes = min(torn_bytes, MAX_INTEGER)
        draft.done.append(segment)

    def _say_end(self, draft: Draft, follower: Follower, group: Sequence[Segment]) -> None:
        say_found(draft, follower, group[0].owner_uid if group else None)
        state = follower.end_state()
        left_out = follower.refused - MAX_REFUSALS
        draft.say(
            _ended(
                follower.row,
                state=state,
                events=follower.count,
                torn_bytes=follower.torn_bytes,
                because=f"{left_out} more events were refused" if left_out > 0 else None,
            )
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
        waiting_bytes = min(sum(n for n in left.values() if n > 0), MAX_INTEGER)
        draft.say(
            seen(
                "trail.beat",
                size=self._log.edge().size + len(draft.leaves),
                emitters=len({segment.emitter for segment in found}),
                waiting=sum(1 for count in left.values() if count > 0),
                waiting_bytes=waiting_bytes,
            )
        )
        self._tell_level(draft, waiting_bytes)

    def _tell_level(self, draft: Draft, waiting_bytes: int) -> None:
        """Raise an alert when too much waits, close it when it is well below that again."""
        is_high = waiting_bytes > (LOW_WATER_BYTES if self._is_high else HIGH_WATER_BYTES)
        if is_high == self._is_high:
            return
        self._is_high = is_high
        limit = HIGH_WATER_BYTES if is_high else LOW_WATER_BYTES
        because = (
            f"{waiting_bytes:,} bytes wait in the spool, "
            f"{'more' if is_high else 'less'} than {limit:,}"
        )
        act = "alert.raise" if is_high else "alert.close"
        draft.say(seen(act, about="spool", subject=self._me.host.name, because=because))

    def _commit(self, draft: Draft) -> None:
        batch = draft.batch()
        if batch is None:
            return
        try:
            self._log.append(batch)
        except BaseException:
            self._is_stale = True
            raise
        self._own = draft.own
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
