"""Events: the list with its filter, its chart and its facets, and what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin import completion, facets, views
from airflow_secure_ml.plugin.access import Scope, ScopeDep
from airflow_secure_ml.plugin.filter_words import MAX_FILTER_CHARS, filter_of
from airflow_secure_ml.plugin.filters import Filter, parse_filter
from airflow_secure_ml.plugin.lookup import looked, position, visible_leaf
from airflow_secure_ml.plugin.overview import overview
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.routes_event import drawer_values, links
from airflow_secure_ml.plugin.trail import Trail, TrailDep, now_ms
from airflow_secure_ml.plugin.wording import fields

PAGE_ROWS = 50
# Counting a million events would be felt.
MAX_COUNTED = 1000

router = APIRouter()
_reads_dag_log = Depends(requires_access_dag("GET", DagAccessEntity.AUDIT_LOG))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """One page of rows and how to go on from it."""

    leaves: Sequence[Leaf]
    has_older: bool
    has_newer: bool


@router.get("/events")
def events(
    scope: ScopeDep,
    trail: TrailDep,
    q: str = "",
    event: str = "",
    older: str = "",
    newer: str = "",
) -> Response:
    """The first page: what happened, newest first."""
    now = datetime.now(UTC)
    found = parse_filter(q, now=now)
    signed = trail.signed()
    values: dict[str, Any] = {"filter": found, "state": _state(trail, signed)}
    values |= links(found, older=older, newer=newer)
    values["export_href"] = href("export", q=found.text) if scope.may_export else ""
    if found.problems:
        return page("events", "Events", whole=scope.whole, **values)
    if _names_person(found):
        # The name is not written down once more: it could not be erased from there.
        trail.record(looked(scope, "person", f"{found.cleared('by')} by:…".strip()))
    query = scope.limit(found.query)
    listing = _listing(trail, scope, query, older=older, newer=newer)
    rows = [
        views.row(leaf, covered_size=signed.size, numbered=scope.whole) for leaf in listing.leaves
    ]
    is_top = not (newer or older or _names_person(found))
    newest, known = _watch(trail, query, listing.leaves) if is_top else ("", 0)
    values |= {
        "rows": rows,
        "overview": overview(
            trail.store,
            trail.hasty_store,
            scope,
            found,
            now=now,
            is_empty=not (rows or older or newer),
        ),
        "found": _found(trail, query, listing),
        "newest": newest,
        "known": known,
        "older_href": _turn(found, rows, "older") if listing.has_older else "",
        "newer_href": _turn(found, rows, "newer") if listing.has_newer else "",
        "drawer": None,
    }
    if event:
        values |= drawer_values(trail, scope, visible_leaf(trail, scope, event))
        values["close_href"] = href("events", q=q, older=older, newer=newer)
    return page("events", "Events", whole=scope.whole, **values)


@router.get("/dag", dependencies=[_reads_dag_log])
def dag_tab(dag_id: str, scope: ScopeDep, trail: TrailDep) -> Response:
    """The DAG's tab: its events."""
    return events(scope, trail, q=filter_of(("dag", dag_id)))


@router.get("/task", dependencies=[_reads_dag_log])
def task_tab(dag_id: str, run_id: str, task_id: str, scope: ScopeDep, trail: TrailDep) -> Response:
    """The task instance's tab: its events."""
    return events(scope, trail, q=filter_of(("dag", dag_id), ("run", run_id), ("task", task_id)))


@router.get("/newer")
def newer(scope: ScopeDep, trail: TrailDep, name: str, q: str = "") -> Response:
    """How many events came in since the one named."""
    found = parse_filter(q, now=datetime.now(UTC))
    leaf = visible_leaf(trail, scope, name)
    # Asked again and again, this is not recorded, so it says nothing of a person.
    if found.problems or _names_person(found):
        return JSONResponse({"count": 0})
    return JSONResponse({"count": _newer(trail, scope.limit(found.query), leaf.index) or 0})


@router.get("/complete")
def complete(scope: ScopeDep, trail: TrailDep, q: str = "", at: int = 0) -> Response:
    """What may stand in the filter box behind its first `at` characters."""
    text = q[:MAX_FILTER_CHARS]
    place = completion.place(text, at)
    offers = completion.offers(trail.store, scope, text, place, now=datetime.now(UTC))
    return JSONResponse(
        {"start": place.start, "stop": place.stop, "offers": [asdict(offer) for offer in offers]}
    )


def _listing(trail: Trail, scope: Scope, query: EventQuery, *, older: str, newer: str) -> _Listing:
    limit = PAGE_ROWS + 1
    if newer:
        bound = position(visible_leaf(trail, scope, newer))
        found = list(trail.store.page(query, newer_than=bound, limit=limit))
        return _Listing(leaves=found[-PAGE_ROWS:], has_older=True, has_newer=len(found) == limit)
    below = position(visible_leaf(trail, scope, older)) if older else None
    page_of = trail.store.page(query, older_than=below, limit=limit)
    return _Listing(
        leaves=page_of[:PAGE_ROWS], has_older=len(page_of) > PAGE_ROWS, has_newer=bool(older)
    )


def _watch(trail: Trail, query: EventQuery, leaves: Sequence[Leaf]) -> tuple[str, int]:
    """The event to count new ones from, and how many came after it but stand further down.

    A worker's late events have old times: their places in the log are new, their rows are not.
    """
    if not leaves or (query.until_ms is not None and query.until_ms <= now_ms()):
        return "", 0
    last = max(leaves, key=lambda leaf: leaf.index)
    known = _newer(trail, query, last.index)
    return ("", 0) if known is None else (name_of(last.event), known)


def _newer(trail: Trail, query: EventQuery, index: int) -> int | None:
    return _counted(trail, replace(query, above_index=index), at_most=MAX_COUNTED)


def _counted(trail: Trail, query: EventQuery, *, at_most: int) -> int | None:
    """How many events match; None: it would take too long to know."""
    try:
        return trail.hasty_store.count(query, at_most=at_most)
    except ServiceUnavailableError:
        return None


def _names_person(found: Filter) -> bool:
    return any(token.field == "by" for token in found.tokens)


def _turn(found: Filter, rows: Sequence[views.Row], direction: str) -> str:
    if not rows:
        return href("events", q=found.text)
    name = rows[-1].name if direction == "older" else rows[0].name
    return href("events", q=found.text, **{direction: name})


def _found(trail: Trail, query: EventQuery, listing: _Listing) -> str:
    """How many events match, in words; that there are more if they were not all counted."""
    here = len(listing.leaves)
    if not (listing.has_older or listing.has_newer):
        return "1 event" if here == 1 else f"{here:,} events"
    count = _counted(trail, query, at_most=MAX_COUNTED + 1)
    if count is None or count > MAX_COUNTED:
        return f"more than {here if count is None else MAX_COUNTED:,} events"
    return f"{count:,} events"


def _state(trail: Trail, signed: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"events": f"{trail.store.size():,}", "note": "none"}
    if signed.problem:
        state["note"] = signed.problem
    elif signed.checkpoint:
        newest = trail.store.leaf(signed.checkpoint.size - 1)
        made = fields({"e": newest.event}, "e").get("time") if newest else None
        age = max(now_ms() - made, 0) / 1000 if isinstance(made, int) else 0
        state |= {"note": "signed", "signed": views.when(made), "age": facets.ago(age)}
    return state
