"""Count what a filter finds, for what stands above the list: the chart and the facets.

The store counts in bounded time and says when it did not count everything; what is shown keeps
that. A reader of some DAGs gets counts of their events alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_secure_ml.core.audit.query import EventQuery, Values
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin import histogram
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.facets import COUNTED, Choice, Facet, build, times
from airflow_secure_ml.plugin.filters import Filter, parse_filter
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.services.report_figures import DAY_MS, stamp

# A log with one event is not drawn as a millisecond.
LEAST_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What stands above the list.

    Attributes:
        chart: Events over time; None: nothing matches.
        later: Whether events are dated so far ahead that the chart leaves them out.
        facets: Values to click.
        times: Stretches of time to click.
        rest: The filter without its times, to which a dragged stretch is added.
    """

    chart: histogram.Chart | None
    later: bool
    facets: tuple[Facet, ...]
    times: tuple[Choice, ...]
    rest: str


def overview(
    store: AuditStore,
    hasty: AuditStore,
    scope: Scope,
    found: Filter,
    *,
    now: datetime,
    is_empty: bool = False,
) -> Overview:
    """Count what the filter finds.

    Args:
        store: The log.
        hasty: The same, for what is done without if it takes long.
        scope: What the reader may see.
        found: The filter, without problems.
        now: The moment that `after:7d` counts back from, UTC.
        is_empty: Whether it is known already that nothing matches.
    """
    counted = {field: _values(store, scope, found, field, now=now) for field in COUNTED}
    query = scope.limit(found.query)
    span = None if is_empty else _span(hasty, query)
    chart, later = (None, False) if span is None else _chart(store, query, found, span, now)
    return Overview(
        chart=chart,
        later=later,
        facets=build(counted, found),
        times=times(found),
        rest=found.between("", ""),
    )


def _values(store: AuditStore, scope: Scope, found: Filter, field: str, *, now: datetime) -> Values:
    # What is said of the field itself is taken out: its other values are counted too.
    others = parse_filter(found.cleared(field), now=now)
    counted, limit = COUNTED[field]
    return store.values(scope.limit(others.query), counted, limit=limit)


def _span(store: AuditStore, query: EventQuery) -> tuple[int, int] | None:
    """From when to when there are events; if that takes too long, of all the reader may see."""
    times = EventQuery(dags=query.dags, from_ms=query.from_ms, until_ms=query.until_ms)
    for asked in (query, times):
        try:
            return store.span(asked)
        except ServiceUnavailableError:
            continue
    return None


def _chart(
    store: AuditStore, query: EventQuery, found: Filter, span: tuple[int, int], now: datetime
) -> tuple[histogram.Chart, bool]:
    now_ms = int(now.timestamp() * 1000)
    # A clock that is wrong by years must not press all the others into one bar.
    newest = min(span[1], now_ms + DAY_MS)
    if query.until_ms is not None:
        last = query.until_ms - 1
    else:
        last = newest if query.from_ms is None else max(newest, now_ms)
    first = span[0] if query.from_ms is None else query.from_ms
    if query.from_ms is None or query.until_ms is None:
        first = min(first, last - LEAST_MS)
    over = histogram.axis(first, last)
    counted = store.histogram(
        query, from_ms=over.from_ms, until_ms=over.until_ms, buckets=over.steps
    )

    def zoomed(begin_ms: int, end_ms: int) -> str:
        return href("events", q=found.between(stamp(begin_ms), stamp(end_ms)))

    return histogram.draw(counted, over, zoomed), span[1] >= over.until_ms
