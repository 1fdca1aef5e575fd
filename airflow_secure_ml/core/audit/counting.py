"""What a store counts for a reader, made of what its rows say.

Each store asks in its own words, within these bounds; nothing that was read is believed to be
well-formed.

Source: PAGES, Events (histogram, facets).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.query import MAX_BARS, VALUE_FIELDS, Histogram, Values
from airflow_secure_ml.errors import FormatError

# So many leaves are counted exactly, if that takes no longer than this; else parts are looked at.
MAX_COUNTED = 250_000
BUDGET_S = 0.1
# A log with at most so many leaves is counted exactly however slow the machine is.
SMALL = 20_000
# Newest leaves that values are counted in.
MAX_VALUED = 10_000
# Fields with an index: of those values are found beside the newest leaves too, so many at most.
LISTED = frozenset({"dag", "act", "uri", "key", "emitter"})
MAX_LISTED = 1000
# Leaves that an estimate looks at, in runs that lie together: a run costs little more than a leaf.
SAMPLED, RUN = 4096, 16
# An event's times are within these.
_FIRST_MS, _LAST_MS = -(2**53), 2**53

# (number of the bar, events).
BarRow = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Stretches of time of one length.

    Attributes:
        from_ms: Where the first one begins, ms since 1970 UTC.
        bucket_ms: How long each is.
        count: How many there are.
    """

    from_ms: int
    bucket_ms: int
    count: int

    @property
    def until_ms(self) -> int:
        """Where the last one ends."""
        return self.from_ms + self.count * self.bucket_ms

    def exact(self, rows: Iterable[BarRow]) -> Histogram:
        """The histogram of rows (bar, events, refused among them) that are all there is."""
        found = list(rows)
        events = self._sums((bar, n) for bar, n, _ in found)
        refused = self._sums((bar, n) for bar, _, n in found)
        return self._made(events, refused, exact=True)

    def estimate(
        self, rows: Iterable[BarRow], scale: float, refused: Iterable[BarRow] | None
    ) -> Histogram:
        """The histogram of rows of a sample.

        Args:
            rows: As in `exact`, of the leaves that were looked at.
            scale: How many leaves one of them stands for.
            refused: (bar, events) of all that was refused; None: that is estimated too.
        """
        found = list(rows)
        events = self._sums((bar, n * scale) for bar, n, _ in found)
        sampled = ((bar, n * scale) for bar, _, n in found)
        return self._made(events, self._sums(sampled if refused is None else refused), exact=False)

    def _sums(self, rows: Iterable[BarRow]) -> list[int]:
        sums = [0.0] * self.count
        for bar, n in rows:
            # Of a leaf whose time is no number it is something else.
            if isinstance(bar, int) and 0 <= bar < self.count:
                sums[bar] += n
        return [round(n) for n in sums]

    def _made(self, events: Sequence[int], refused: Sequence[int], *, exact: bool) -> Histogram:
        pairs = zip(events, refused, strict=True)
        return Histogram(
            from_ms=self.from_ms,
            bucket_ms=self.bucket_ms,
            bars=tuple((max(n, no), no) for n, no in pairs),
            is_exact=exact,
        )


def bars_of(from_ms: int, until_ms: int, buckets: int) -> Bars:
    """The bars of a histogram that was asked for.

    Raises:
        FormatError: A time that is none, or too many bars or none.
    """
    if not _FIRST_MS <= from_ms < until_ms <= _LAST_MS:
        raise FormatError(
            f"histogram: from {from_ms} until {until_ms}; expected two times in ms since 1970, the "
            "earlier one first"
        )
    if not 1 <= buckets <= MAX_BARS:
        raise FormatError(f"histogram: {buckets} bars, expected 1 to {MAX_BARS}")
    bucket_ms = -(-(until_ms - from_ms) // buckets)
    count = -(-(until_ms - from_ms) // bucket_ms)
    return Bars(from_ms=from_ms, bucket_ms=bucket_ms, count=count)


def sampled_indices(first: int, size: int) -> list[int]:
    """Indices of leaves that stand for all of them: runs at equal distances.

    Args:
        first: The first leaf whose bytes are there.
        size: The log's size.
    """
    if size - first <= SAMPLED:
        return list(range(first, size))
    step = (size - first) / (SAMPLED // RUN)
    starts = (first + int(number * step) for number in range(SAMPLED // RUN))
    return [start + at for start in starts for at in range(RUN)]


def checked_field(field: str) -> str:
    """A field whose values can be counted.

    Raises:
        FormatError: It is none.
    """
    if field not in VALUE_FIELDS:
        raise FormatError(
            f"values: {field[:40]!r} is not a field; expected one of "
            f"{', '.join(sorted(VALUE_FIELDS))}"
        )
    return field


def values_of(counted: Counter[Any], field: str, *, limit: int, exact: bool) -> Values:
    """The most frequent values of a field; equal ones in order of the values.

    Args:
        counted: What the field holds, hidden values and events without it among it.
        field: One of `VALUE_FIELDS`.
        limit: How many values at most.
        exact: Whether all that matches was counted.
    """
    if field == "result":
        counted = Counter({"intent" if value is None else value: n for value, n in counted.items()})
    shown = ((value, n) for value, n in counted.items() if isinstance(value, str))
    found = sorted(
        ((value, n) for value, n in shown if not _is_hidden(value)),
        key=lambda item: (-item[1], item[0]),
    )
    return Values(values=tuple(found[: max(limit, 0)]), is_exact=exact)


def _is_hidden(value: str) -> bool:
    """Whether it is what an event holds instead of a value, as the text that stores make of it."""
    if not value.startswith("{"):
        return False
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() == {"h", "n"}
