"""From one day to another, as the fields of a page give it.

Pure. Days are UTC, and the last one counts whole: who asks for what happened until the 30th means
the evening of that day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from airflow_secure_ml.services.report_figures import DAY_MS

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Some days.

    Attributes:
        after: The first day as it was given; empty: from the beginning.
        before: The last day as it was given; empty: until now.
        from_ms: Its first millisecond since 1970 UTC; None: no bound.
        until_ms: The millisecond after its last one; None: no bound.
        problem: What was not understood; empty: nothing.
    """

    after: str
    before: str
    from_ms: int | None
    until_ms: int | None
    problem: str = ""

    @property
    def is_bounded(self) -> bool:
        """Whether anything was given."""
        return bool(self.after or self.before)


def parse_period(after: str, before: str) -> Period:
    """Read two days, `2026-11-01` each; what is not understood bounds nothing."""
    first, last = _day(after), _day(before)
    wrong = [text for text, day in ((after, first), (before, last)) if text and day is None]
    problem = f"{wrong[0][:40]!r} is not a day; write it as 2026-11-01" if wrong else ""
    if not problem and first and last and last < first:
        problem = f"{before} lies before {after}"
    return Period(
        after=after[:40],
        before=before[:40],
        from_ms=_ms(first) if first and not problem else None,
        until_ms=_ms(last) + DAY_MS if last and not problem else None,
        problem=problem,
    )


def days_before(now_ms: int, days: int) -> str:
    """The day so many days ago, as a field shows it."""
    return (datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=days)).date().isoformat()


def _day(text: str) -> date | None:
    # Python reads weeks as well, which no field for a day gives.
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
