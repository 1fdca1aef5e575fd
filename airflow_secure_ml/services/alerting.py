"""Evaluate alert rules over the log, leaf by leaf in order, and record each alert exactly once.

What was counted, how far, and what is to be recorded are one row of the relay's book, written
before anything is recorded; so whoever comes after a kill knows what may have been, and looks.

Source: AUDIT_TRAIL, What it proves; README, Buffered and fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from airflow_secure_ml.core.alerts.counting import Counts, decode_counts
from airflow_secure_ml.core.alerts.evaluating import Evaluator, fact_of
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.relaying import RelayBook
from airflow_secure_ml.core.audit.siem import Cursor, parse_cursor
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.alert_facts import DerivedFacts
from airflow_secure_ml.services.log_cursor import broken_cursor, first_kept, said_pruning
from airflow_secure_ml.services.relaying import Rest

JOB = "alerts"
PACE_S = 1.0
MAX_LEAVES = 500
# What the first look at a log that is there already goes back to.
FIRST_LEAVES, FIRST_MS = 20_000, 24 * 3_600_000


class Recorder(Protocol):
    """An emitter of this process, for alerts alone."""

    def record(self, fact: Fact) -> str:
        """Take a fact; returns the event's name. Nothing of it leaves memory before `settle`."""

    def settle(self) -> None:
        """Return when everything recorded so far is durable; see `core.ports.AuditSink`."""

    def abandon(self) -> None:
        """Forget what was recorded and not settled."""

    def close(self) -> None:
        """End what was settled; written, not waited for."""

    def owns(self, name: str) -> bool:
        """Whether an event of that name was recorded by this process and not abandoned."""

    def may_come(self, name: str) -> bool:
        """Whether an event of another process may still be on its way into the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An alert on its way into the log.

    Attributes:
        fact: What is to be recorded.
        name: The event that it may have become; empty: none yet.
    """

    fact: Fact
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the evaluation stands.

    Attributes:
        cursor: How far the log was read.
        start: Where it began in a log that was there already: a leaf's index.
        since_ms: Older events before `start` are none of its business.
        outbox: Alerts that have to be in the log before it goes on.
    """

    cursor: Cursor
    start: int
    since_ms: int
    outbox: tuple[Outgoing, ...] = ()


class AlertJob:
    """Raises alerts. A `services.relaying.Job`.

    Args:
        rules: Reads those in force; asked anew where one could not be read.
        reader: The log.
        book: Where it remembers how far it is.
        recorder: Where alerts are recorded.
        now_ms: The wall clock, ms since 1970 UTC.
        on_pruned: Told of leaves that were pruned before they could be evaluated.
    """

    name, about = JOB, "alerts"

    def __init__(
        self,
        *,
        rules: Callable[[], Sequence[AlertRule]],
        reader: AuditReader,
        book: RelayBook,
        recorder: Recorder,
        now_ms: Callable[[], int],
        on_pruned: Callable[[str], None],
    ) -> None:
        self._read_rules, self._reader, self._book = rules, reader, book
        self._recorder, self._now_ms, self._on_pruned = recorder, now_ms, on_pruned
        self._derive = DerivedFacts(reader)
        self._stand: tuple[Place, Evaluator] | None = None

    def step(self) -> Rest:
        """Evaluate what is new, or bring alerts into the log.

        Raises:
            AuditLogError: The log is not the one that was evaluated before, or leaves are gone
                without a trail.prune that says so.
            FormatError: The book's row cannot be read.
            ConfigurationError: A rule cannot be.
            ServiceUnavailableError: There is no log yet, or an alert cannot be recorded.
        """
        try:
            place, evaluator = self._stand or self._load()
            if place.outbox:
                return self._deliver(place, evaluator)
            return self._evaluate(place, evaluator)
        except BaseException:
            # What was counted in memory may be ahead of the book: the book counts.
            self._stand = None
            raise

    def _evaluate(self, place: Place, evaluator: Evaluator) -> Rest:
        size = self._reader.size()
        problem = broken_cursor(self._reader, place.cursor, size)
        if problem:
            raise AuditLogError(
                f"alerts: {problem}; the log was rolled back, replaced or pruned. Look into the "
                f"store; to begin anew, remove the row {JOB} of table cursor in relay.db"
            )
        leaves = self._batch(place.cursor.next, size)
        if not leaves and place.cursor.next < size:
            return self._pass_pruned(place, evaluator, size)
        for leaf in leaves:
            if not self._is_old(place, leaf):
                evaluator.take(leaf)
        raised = tuple(
            Outgoing(fact=fact_of(rule, values, found))
            for rule, values, found in evaluator.due(self._now_ms())
        )
        if not leaves and not raised:
            self._stand = (place, evaluator)
            return Rest(seconds=PACE_S, is_done=True)
        moved = replace(place, cursor=_after(place.cursor, leaves), outbox=raised)
        self._keep(moved, evaluator)
        is_done = moved.cursor.next >= size and not raised
        return Rest(seconds=PACE_S if is_done else 0.0, is_done=is_done)

    def _pass_pruned(self, place: Place, evaluator: Evaluator, size: int) -> Rest:
        """Go on at the first leaf that is there, where the log says why those before are not."""
        missing, first = place.cursor.next, first_kept(self._reader)
        said_at = said_pruning(self._reader, first) if first > missing else None
        if said_at is None:
            raise AuditLogError(f"alerts: leaf {missing} of {size} is not there", index=missing)
        self._on_pruned(
            f"leaves {missing} to {first - 1} were pruned before they were held against the "
            f"rules; it goes on at leaf {first}, as the trail.prune of leaf {said_at} allows"
        )
        last = self._reader.leaf_hashes(first - 1, first)[0]
        self._keep(replace(place, cursor=replace(place.cursor, next=first, last=last)), evaluator)
        return Rest(seconds=0.0, is_done=False)

    def _deliver(self, place: Place, evaluator: Evaluator) -> Rest:
        """Have every alert of the outbox in the log, or on its way by this process, once."""
        pending = [each for each in place.outbox if not self._recorder.owns(each.name)]
        states = [(each, self._is_there(each)) for each in pending]
        if any(is_there is None for _, is_there in states):
            return Rest(seconds=PACE_S, is_done=False)
        missing = [each for each, is_there in states if not is_there]
        if missing:
            kept = tuple(each for each in place.outbox if each not in missing)
            place = self._record(replace(place, outbox=kept), missing, evaluator)
        # Again where it failed before: what was recorded waits in memory for it.
        self._recorder.settle()
        self._keep(replace(place, outbox=()), evaluator)
        self._recorder.close()
        return Rest(seconds=0.0, is_done=False)

    def _is_there(self, each: Outgoing) -> bool | None:
        """Whether an alert is in the log; None: it may be on its way."""
        if not each.name:
            return False
        if self._reader.find(each.name) is not None:
            return True
        if self._recorder.may_come(each.name):
            return None
        # It may have come between the two.
        return self._reader.find(each.name) is not None

    def _record(self, place: Place, missing: Sequence[Outgoing], evaluator: Evaluator) -> Place:
        try:
            named = [replace(each, name=self._recorder.record(each.fact)) for each in missing]
            place = replace(place, outbox=(*place.outbox, *named))
            self._keep(place, evaluator)
        except BaseException:
            # Nobody would know of them: whoever settles next must not write them.
            self._recorder.abandon()
            raise
        return place

    def _is_old(self, place: Place, leaf: Leaf) -> bool:
        time = leaf.event.get("time")
        return leaf.index < place.start and isinstance(time, int) and time < place.since_ms

    def _batch(self, start: int, size: int) -> list[Leaf]:
        """The next leaves, up to one that is not there."""
        found = []
        for index in range(start, min(size, start + MAX_LEAVES)):
            leaf = self._reader.leaf(index)
            if leaf is None:
                break
            found.append(leaf)
        return found

    def _load(self) -> tuple[Place, Evaluator]:
        rules, text = self._read_rules(), self._book.cursor(JOB)
        if text is None:
            return self._begin(), Evaluator(rules, Counts(), self._derive)
        try:
            found = json.loads(text)
            place = Place(
                cursor=parse_cursor(found["cursor"]),
                start=int(found["start"]),
                since_ms=int(found["since_ms"]),
                outbox=tuple(_outgoing(each) for each in found["outbox"]),
            )
            counts = decode_counts(found["groups"])
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise FormatError(
                f"relay book: the row {JOB} of table cursor cannot be read; remove it to have "
                "the newest events evaluated anew"
            ) from error
        return place, Evaluator(rules, counts, self._derive)

    def _begin(self) -> Place:
        try:
            size = self._reader.size()
        except ConfigurationError as error:
            # The sequencer makes it; whoever waits for that concerns nobody.
            raise ServiceUnavailableError(
                service="audit log", action="read", reason=str(error), why="audit_unavailable"
            ) from error
        start = max(first_kept(self._reader), size - FIRST_LEAVES)
        last = None
        if start:
            last = self._reader.leaf_hashes(start - 1, start)[0]
        cursor = Cursor(origin=self._reader.origin(), next=start, last=last)
        return Place(cursor=cursor, start=size, since_ms=self._now_ms() - FIRST_MS)

    def _keep(self, place: Place, evaluator: Evaluator) -> None:
        text = {
            "cursor": place.cursor.encode(),
            "start": place.start,
            "since_ms": place.since_ms,
            "outbox": [_encoded(each) for each in place.outbox],
            "groups": evaluator.encode(),
        }
        self._book.move(JOB, json.dumps(text, ensure_ascii=True, separators=(",", ":")))
        self._stand = (place, evaluator)


def _after(cursor: Cursor, leaves: Sequence[Leaf]) -> Cursor:
    if not leaves:
        return cursor
    return replace(cursor, next=leaves[-1].index + 1, last=leaves[-1].hash)


def _encoded(each: Outgoing) -> Mapping[str, Any]:
    fact = each.fact
    dag = "" if fact.run is None else fact.run.dag
    return {"more": fact.more, "rule": fact.rule, "dag": dag, "name": each.name}


def _outgoing(found: Mapping[str, Any]) -> Outgoing:
    run = RunRef(dag=found["dag"], run="") if found["dag"] else None
    fact = Fact(
        act="alert.raise",
        phase="seen",
        result="ok",
        run=run,
        rule=found["rule"],
        more=found["more"],
    )
    return Outgoing(fact=fact, name=found["name"])


def evaluated_to(book: RelayBook) -> int | None:
    """How many leaves were held against the rules; None: none were, or not here."""
    text = book.cursor(JOB)
    if text is None:
        return None
    try:
        return parse_cursor(json.loads(text)["cursor"]).next
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"relay book: the row {JOB} of table cursor cannot be read") from error
