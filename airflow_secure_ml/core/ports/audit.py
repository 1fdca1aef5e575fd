"""Ports to the audit trail: where a process says what it does, and what readers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.event import Fact
    from airflow_secure_ml.core.audit.query import EventQuery, Histogram, Leaf, ValueField, Values
    from airflow_secure_ml.core.redaction import Aside


class AuditSink(Protocol):
    """Where this process says what it does; one emitter (AUDIT_TRAIL, Producers)."""

    def record(self, fact: Fact) -> str:
        """Take a fact; returns the event's name, `<emitter>:<seq>`. Durable only after `settle`."""

    def settle(self) -> None:
        """Return when everything recorded so far would survive a power loss.

        Raises:
            ServiceUnavailableError: It cannot be made durable (`why` audit_unavailable).
        """

    def close(self) -> None:
        """Record emitter.close and let go; written, not waited for. May be called twice."""


class AuditStore(Protocol):
    """A sequenced log, as readers see it (pages, `audit verify`, `audit show`)."""

    def origin(self) -> str:
        """The log's name, as checkpoints carry it."""

    def size(self) -> int:
        """Number of leaves."""

    def page(
        self,
        query: EventQuery,
        *,
        older_than: tuple[int, int] | None = None,
        newer_than: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> Sequence[Leaf]:
        """Leaves that match, newest first by (time, index); keyset bounds are exclusive."""

    def count(self, query: EventQuery, *, at_most: int) -> int:
        """How many leaves match, counting no further than `at_most`."""

    def kinds(self, query: EventQuery, *, limit: int) -> Sequence[tuple[str, str]]:
        """(activity, result) of the newest leaves that match; `intent` where there is no result.

        A leaf may be large: for counting they are not all held.
        """

    def kind_counts(self, query: EventQuery, *, at_most: int) -> Mapping[tuple[str, str], int]:
        """How many of the newest leaves that match are of each (activity, result), as `kinds`.

        Args:
            query: What is counted.
            at_most: How many leaves are looked at; fewer than that in all: there are no more.
        """

    def histogram(
        self, query: EventQuery, *, from_ms: int, until_ms: int, buckets: int
    ) -> Histogram:
        """How many leaves that match fall into each part of a time, and how many were refused.

        Answers in a fraction of a second however large the log is: then it is not exact.

        Args:
            query: What is counted; its own times hold too.
            from_ms: Where the first bar begins, ms since 1970 UTC.
            until_ms: Where the last one ends at the earliest; after `from_ms`.
            buckets: How many bars at most, from 1 to `MAX_BARS`; each is a whole ms at least.

        Raises:
            FormatError: A time that is none, or another number of bars.
        """

    def values(self, query: EventQuery, field: ValueField, *, limit: int) -> Values:
        """The most frequent values of a field among the leaves that match.

        Values that are hidden are left out; those of `by` are names, revealed: who shows them has
        to record that first. Answers in a fraction of a second however large the log is.

        Args:
            query: What is counted.
            field: Whose values; of result, `intent` is one too.
            limit: How many values at most.
        """

    def span(self, query: EventQuery) -> tuple[int, int] | None:
        """Time of the first and of the last leaf that matches, ms since 1970 UTC; None: none."""

    def leaf(self, index: int) -> Leaf | None:
        """One leaf by its index from 0."""

    def find(self, event: str) -> Leaf | None:
        """One leaf by its event's name, `<emitter>:<seq>`."""

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""

    def checkpoint(self, *, at_most: int | None = None) -> str | None:
        """The newest signed note whose size is at most `at_most`; None: none yet."""

    def reveal(self, hidden: str) -> str | None:
        """The value behind a hidden value's hash; None: erased."""

    def aside(self, hidden: str) -> Aside | None:
        """The same with its salt, by which others check it; None: erased."""
