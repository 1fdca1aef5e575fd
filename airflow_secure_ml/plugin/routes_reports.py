"""Reports: a period's figures, each a link to its events; and the reports that were written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Response

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin import views
from airflow_secure_ml.plugin.access import WholeLogDep
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep, now_ms
from airflow_secure_ml.plugin.wording import fields, plain, shortened, where
from airflow_secure_ml.services.report_figures import DAY_MS, stamp, whole_period_before
from airflow_secure_ml.services.report_html import period_of, report_values
from airflow_secure_ml.services.reporting import FORMAT, build_report

# A page has a fraction of a second; the operator counts all there is.
COUNT_TO = 250_000
MAX_DAYS = 3660
WRITTEN_SHOWN = 50

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that a task wrote."""

    event: str
    when: views.When
    period: str
    by: str
    name: str
    uri: str
    digest: str
    short: str


@router.get("/reports")
def show_reports(scope: WholeLogDep, trail: TrailDep) -> Response:
    """Periods to look at now, and the reports that were written."""
    now = now_ms()
    today = now - now % DAY_MS
    values: dict[str, Any] = {
        "periods": [
            ("Yesterday", *whole_period_before("day", now)),
            ("Last 7 days", today - 6 * DAY_MS, today + DAY_MS),
            ("Last week", *whole_period_before("week", now)),
            ("Last 30 days", today - 29 * DAY_MS, today + DAY_MS),
            ("Last month", *whole_period_before("month", now)),
        ],
        "report_href": _report_href,
        "period_of": period_of,
        "written": [_written(leaf.event) for leaf in _written_leaves(trail)],
        "event_href": lambda name: href("event", name=name),
        "today": stamp(today),
        "month_ago": stamp(today - 29 * DAY_MS),
    }
    return page("reports", "Reports", whole=scope.whole, **values)


@router.get("/report")
def show_report(scope: WholeLogDep, trail: TrailDep, first: str = "", last: str = "") -> Response:
    """The report of some days, counted now."""
    begin, end = day_ms(first), day_ms(last) + DAY_MS
    if begin >= end:
        raise HTTPException(400, "The first day comes after the last.")
    if end - begin > MAX_DAYS * DAY_MS:
        raise HTTPException(400, f"A report is of {MAX_DAYS:,} days at most.")
    signed = trail.signed()
    report = build_report(
        trail.store,
        from_ms=begin,
        until_ms=end,
        checkpoint=signed.checkpoint,
        problem=signed.problem,
        count_to=COUNT_TO,
    )
    values = report_values(
        report,
        link=lambda words: href("events", q=words),
        link_event=lambda name: href("event", name=name),
    )
    return page("report", "Reports", whole=scope.whole, **values)


def day_ms(given: str) -> int:
    """The begin of a day, ms since 1970 UTC.

    Raises:
        HTTPException: 400: it is none.
    """
    try:
        found = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise HTTPException(400, "A day is written as 2026-11-01.") from error
    if not 1970 <= found.year < 9999:
        raise HTTPException(400, "A day is from 1970 on.")
    return int(found.timestamp()) * 1000


def _report_href(begin: int, end: int) -> str:
    return href("report", first=stamp(begin), last=stamp(end - DAY_MS))


def _written_leaves(trail: Trail) -> Any:
    query = EventQuery(acts=("trail.export",), results=("ok",), text=FORMAT)
    leaves = trail.store.page(query, limit=WRITTEN_SHOWN)
    return [leaf for leaf in leaves if fields(leaf.event, "more").get("format") == FORMAT]


def _written(event: Any) -> Written:
    thing, more = fields(event, "object"), fields(event, "more")
    query = str(more.get("query", ""))
    digest = plain(thing.get("digest", ""))
    return Written(
        event=name_of(event),
        when=views.when(event.get("time")),
        period=_period_in(query),
        by=where(event) or "?",
        name=plain(thing.get("name", "?")),
        uri=plain(thing.get("uri", "?")),
        digest=digest,
        short=shortened(digest.removeprefix("sha256:")),
    )


def _period_in(query: str) -> str:
    """The period that a report's filter names; the filter itself where it is another."""
    after, _, before = query.partition(" before:")
    try:
        begin, end = day_ms(after.removeprefix("after:")), day_ms(before)
    except HTTPException:
        return plain(query)
    return period_of(begin, end)
