"""Take what requests did from the event loop to the trail, in a thread of its own.

`put` never waits, never fails and never grows without bound: what does not fit is counted, and the
count is an event. Nothing here decides what is worth recording: that is `user_acts`.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Final

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.ports import AuditSink
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.plugin.user_acts import Answered, Kind, fact_of, repeats_as

log = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
MAX_BATCH: Final = 500
# A page that stays open asks every few seconds; the first time is an event at once.
REPEAT_S: Final = 60.0
MAX_REPEATS: Final = 4096
STOP_S: Final = 5.0
# A sequencer that cannot start is not asked for again with every request.
RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A request that is to be recorded.

    Attributes:
        answered: What it was and how it was answered.
        kind: What kind of act that is.
        who: Whose it was, where Airflow said so already.
        token: The session token that came with it, where it did not.
    """

    answered: Answered
    kind: Kind
    who: str | None = None
    token: str = field(default="", repr=False)


@dataclass(slots=True, kw_only=True)
class _Repeats:
    """The same request again and again."""

    passed: Passed
    who: str | None
    until: float
    count: int = 0


class ActRecorder:
    """One process's way from its event loop to the trail.

    Args:
        open_sink: Gives the process's sink.
        who: Gives the user behind a token; called in the recorder's thread.
        ensure_sequencer: Called after something is durable, so that somebody takes it in.
        clock: A clock that never goes back, seconds.
        max_waiting: How many requests wait at most.
    """

    def __init__(
        self,
        *,
        open_sink: Callable[[], AuditSink],
        who: Callable[[str], str | None],
        ensure_sequencer: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._open_sink, self._who, self._ensure_sequencer = open_sink, who, ensure_sequencer
        self._clock, self._max_waiting = clock, max_waiting
        self._waiting: queue.SimpleQueue[Passed | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        # Written by the event loop only, and only read by the thread.
        self._dropped = 0
        # The thread's own.
        self._lost = self._told = self._lost_since_ms = 0
        self._is_unsettled = self._has_warned = self._is_at_exit = False
        self._ask_sequencer_at = 0.0
        self._repeats: OrderedDict[Hashable, _Repeats] = OrderedDict()

    def put(self, passed: Passed) -> None:
        """Take a request over; for the event loop, so at once and in any case."""
        if self._pid != os.getpid():
            self._begin()
        if self._waiting.qsize() >= self._max_waiting:
            self._dropped += 1
            return
        self._waiting.put(passed)

    def lose(self) -> None:
        """Count a request that could not be taken over."""
        self._dropped += 1

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Record what waits and end the thread; what comes later begins another."""
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return
        self._pid = 0
        self._waiting.put(None)
        thread.join(timeout_s)

    def _begin(self) -> None:
        """Start the thread; in a forked process anew: the parent's is not here."""
        if self._pid:
            self._waiting = queue.SimpleQueue()
            self._repeats.clear()
        thread = threading.Thread(
            target=self._work, args=(self._waiting,), name="record-reads", daemon=True
        )
        thread.start()
        self._thread, self._pid = thread, os.getpid()

    def _work(self, waiting: queue.SimpleQueue[Passed | None]) -> None:
        goes_on = True
        while goes_on:
            batch = _take(waiting, self._seconds_to_wait())
            goes_on = None not in batch
            facts: list[Fact] = []
            for passed in batch:
                try:
                    facts += [] if passed is None else self._facts(passed)
                except Exception as error:  # noqa: BLE001 - requests are never told
                    self._lose(1, error)
            try:
                facts += self._due(is_last=not goes_on)
                self._record(facts)
            except Exception as error:  # noqa: BLE001 - as above
                self._lose(len(facts), error)

    def _seconds_to_wait(self) -> float | None:
        if self._missing() or self._is_unsettled:
            return 1.0
        if not self._repeats:
            return None
        return max(next(iter(self._repeats.values())).until - self._clock(), 0.05)

    def _facts(self, passed: Passed) -> list[Fact]:
        who = passed.who
        # Airflow has just said that this token is nobody's.
        if who is None and passed.answered.status != 401:
            who = self._who(passed.token)
        key = repeats_as(passed.answered, passed.kind, who)
        if key is None:
            return [fact_of(passed.answered, passed.kind, who)]
        if key in self._repeats:
            self._repeats[key].count += 1
            return []
        until = self._clock() + REPEAT_S
        # A token is not kept for longer than it takes to ask whose it is.
        self._repeats[key] = _Repeats(passed=replace(passed, token=""), who=who, until=until)
        first = [fact_of(passed.answered, passed.kind, who)]
        if len(self._repeats) > MAX_REPEATS:
            first += _told(self._repeats.popitem(last=False)[1])
        return first

    def _due(self, *, is_last: bool) -> list[Fact]:
        """How often in a row, for those whose time is over; who came again is watched on."""
        now, facts = self._clock(), []
        while self._repeats:
            key, oldest = next(iter(self._repeats.items()))
            if oldest.until > now and not is_last:
                break
            del self._repeats[key]
            facts += _told(oldest)
            if oldest.count and not is_last:
                self._repeats[key] = _Repeats(
                    passed=oldest.passed, who=oldest.who, until=now + REPEAT_S
                )
        return facts

    def _record(self, facts: list[Fact]) -> None:
        """Hand facts over and make them durable; those still in `facts` afterwards are lost."""
        if not facts and not self._missing() and not self._is_unsettled:
            return
        sink = self._sink()
        # What could not be written is kept by the sink: it is not given more to keep.
        if self._is_unsettled:
            sink.settle()
        self._is_unsettled = True
        while facts:
            fact = facts.pop(0)
            try:
                sink.record(fact)
            except FormatError as error:
                self._lose(1, error)
        if missing := self._missing():
            sink.record(_loss(missing, self._lost_since_ms or time.time_ns() // 1_000_000))
            self._told += missing
            self._lost_since_ms = 0
        sink.settle()
        self._is_unsettled = self._has_warned = False
        self._take_in()

    def _missing(self) -> int:
        return self._lost + self._dropped - self._told

    def _sink(self) -> AuditSink:
        sink = self._open_sink()
        if not self._is_at_exit:
            self._is_at_exit = True
            # After the sink made its own handler: the last to be made is the first to run.
            atexit.register(self.stop)
        return sink

    def _take_in(self) -> None:
        now = self._clock()
        if now < self._ask_sequencer_at:
            return
        try:
            self._ensure_sequencer()
        except SecureMLError as error:
            self._ask_sequencer_at = now + RETRY_S
            log.warning("recorded requests wait in the spool: %s", error)

    def _lose(self, count: int, error: Exception) -> None:
        self._lost += count
        self._lost_since_ms = self._lost_since_ms or time.time_ns() // 1_000_000
        if not self._has_warned:
            self._has_warned = True
            # Not another's text: it may hold anything, and this goes to a log that many may read.
            found = str(error) if isinstance(error, SecureMLError) else type(error).__name__
            log.warning("the audit trail has no record of some requests: %s", found)


def _take(waiting: queue.SimpleQueue[Passed | None], seconds: float | None) -> list[Passed | None]:
    batch: list[Passed | None] = []
    try:
        batch.append(waiting.get(timeout=seconds))
        while len(batch) < MAX_BATCH and batch[-1] is not None:
            batch.append(waiting.get_nowait())
    except queue.Empty:
        pass
    return batch


def _told(repeats: _Repeats) -> list[Fact]:
    if not repeats.count:
        return []
    passed = repeats.passed
    return [fact_of(passed.answered, passed.kind, repeats.who, count=repeats.count)]


def _loss(count: int, since_ms: int) -> Fact:
    more = {
        "events": count,
        "since": since_ms,
        "because": "requests came faster than they could be recorded, or recording them failed",
    }
    return Fact(
        act="emitter.loss", phase="seen", result="failed", why="audit_unavailable", more=more
    )
