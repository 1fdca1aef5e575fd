"""Events: the list with its filter, one event with its proof, and who did it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.plugin import facets, views
from airflow_secure_ml.plugin.access import Scope, ScopeDep, WholeLogDep, check_form, form_token
from airflow_secure_ml.plugin.filters import FIELDS, Filter, Token, parse_filter
from airflow_secure_ml.plugin.proofs import Proof, prove_event
from airflow_secure_ml.plugin.rendering import fragment, href, page
from airflow_secure_ml.plugin.trail import HOUR_MS, Trail, TrailDep, now_ms
from airflow_secure_ml.plugin.wording import fields, is_hidden, time_of, visible

PAGE_ROWS = 50
# Counts come from the newest matches: counting a million events would be felt.
SAMPLE_ROWS = 1000
NEIGHBOURS = 2
# What the trail calls the two files that prove an event.
_PROOF_FORMS = {"json": "proof", "tlog-proof": "tlog-proof"}

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
    found = parse_filter(q, now=datetime.now(UTC))
    signed = trail.signed()
    values: dict[str, Any] = {"filter": found, "fields": FIELDS, "state": _state(trail, signed)}
    values |= _links(found, older=older, newer=newer)
    if found.problems:
        return page("events", "Events", whole=scope.whole, **values)
    query = scope.limit(found.query)
    sample = trail.store.kinds(query, limit=SAMPLE_ROWS)
    listing = _listing(trail, scope, query, older=older, newer=newer)
    rows = [
        views.row(leaf, covered_size=signed.size, numbered=scope.whole) for leaf in listing.leaves
    ]
    is_all = len(sample) < SAMPLE_ROWS
    values |= {
        "rows": rows,
        "facets": facets.build(sample, found, is_all=is_all),
        "found": _found(len(sample), is_all=is_all),
        "older_href": _turn(found, rows, "older") if listing.has_older else "",
        "newer_href": _turn(found, rows, "newer") if listing.has_newer else "",
        "drawer": None,
    }
    if event:
        values |= _drawer_values(trail, scope, found, _visible_leaf(trail, scope, event))
        values["close_href"] = href("events", q=q, older=older, newer=newer)
    return page("events", "Events", whole=scope.whole, **values)


@router.get("/dag", dependencies=[_reads_dag_log])
def dag_tab(dag_id: str, scope: ScopeDep, trail: TrailDep) -> Response:
    """The DAG's tab: its events."""
    return events(scope, trail, q=str(Token(field="dag", value=dag_id)))


@router.get("/task", dependencies=[_reads_dag_log])
def task_tab(dag_id: str, run_id: str, task_id: str, scope: ScopeDep, trail: TrailDep) -> Response:
    """The task instance's tab: its events."""
    parts = (("dag", dag_id), ("run", run_id), ("task", task_id))
    return events(
        scope, trail, q=" ".join(str(Token(field=field, value=value)) for field, value in parts)
    )


@router.get("/event")
def event(scope: ScopeDep, trail: TrailDep, name: str, q: str = "", part: str = "") -> Response:
    """One event; with `part`, only what the list's drawer shows."""
    leaf = _visible_leaf(trail, scope, name)
    return _event_page(trail, scope, leaf, q=q, part=part)


@router.get("/newer")
def newer(scope: ScopeDep, trail: TrailDep, name: str, q: str = "") -> Response:
    """How many events came in since the one named."""
    found = parse_filter(q, now=datetime.now(UTC))
    leaf = _visible_leaf(trail, scope, name)
    query = scope.limit(replace(found.query, above_index=leaf.index))
    count = 0 if found.problems else trail.store.count(query, at_most=1000)
    return JSONResponse({"count": count})


@router.post("/person")
def person(
    request: Request,
    scope: ScopeDep,
    trail: TrailDep,
    name: Annotated[str, Form()],
    token: Annotated[str, Form()],
) -> Response:
    """Show who did something; that this was looked at is recorded first."""
    check_form(request, scope, token, now_ms() // HOUR_MS)
    leaf = _visible_leaf(trail, scope, name)
    hidden = leaf.event.get("by")
    if not is_hidden(hidden):
        raise HTTPException(404, "This event names no person.")
    trail.record(_looked(scope, "person", name))
    value = trail.store.reveal(str(hidden["h"])) if isinstance(hidden, dict) else None
    shown = "erased: the name is gone, the event stays" if value is None else visible(value)
    return _event_page(trail, scope, leaf, revealed=shown)


@router.post("/proof")
def proof(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    name: Annotated[str, Form()],
    token: Annotated[str, Form()],
    form: Annotated[Literal["json", "tlog-proof"], Form()] = "json",
) -> Response:
    """A file that proves one event without this server; the export is recorded first."""
    check_form(request, scope, token, now_ms() // HOUR_MS)
    leaf = _visible_leaf(trail, scope, name)
    proven = prove_event(trail, leaf)
    if proven is None:
        raise HTTPException(409, "No checkpoint covers this event yet; try again in a moment.")
    trail.record(
        Fact(
            act="trail.export",
            phase="outcome",
            result="ok",
            by=scope.user,
            more={"format": _PROOF_FORMS[form], "query": name, "events": 1},
        )
    )
    headers = {"Content-Disposition": f'attachment; filename="proof-{leaf.index}.{form}"'}
    if form == "tlog-proof":
        return Response(proven.as_tlog_proof(), media_type="text/plain", headers=headers)
    body = json.dumps(proven.as_file(), indent=1, ensure_ascii=True)
    return Response(body, media_type="application/json", headers=headers)


def _event_page(
    trail: Trail, scope: Scope, leaf: Leaf, *, q: str = "", part: str = "", revealed: str = ""
) -> Response:
    found = parse_filter(q, now=datetime.now(UTC))
    values = _links(found, older="", newer="") | _drawer_values(trail, scope, found, leaf)
    values |= {"revealed": revealed, "close_href": href("events", q=q)}
    if part:
        return HTMLResponse(fragment("_drawer", scope_whole=scope.whole, **values))
    return page("event", "Events", whole=scope.whole, **values)


def _visible_leaf(trail: Trail, scope: Scope, name: str) -> Leaf:
    leaf = trail.store.find(name[:100])
    # One answer for "not there" and "not yours": which of the two must not be told.
    if leaf is None or not scope.covers(leaf.event):
        raise HTTPException(
            404, f"There is no such event among those that you may read.{_gone(trail, scope)}"
        )
    return leaf


def _gone(trail: Trail, scope: Scope) -> str:
    """What a log that was pruned adds to that answer, whatever was asked for."""
    found = trail.store.page(EventQuery(acts=("trail.prune",)), limit=1)
    more = fields(found[0].event, "more") if found else {}
    if "below" not in more:
        return ""
    # Where the archive lies is for those who may read all of it.
    archive = f", archived at {more['archive']}" if scope.whole and "archive" in more else ""
    return f" Events below leaf {more['below']} were pruned{archive}."


def _listing(trail: Trail, scope: Scope, query: EventQuery, *, older: str, newer: str) -> _Listing:
    limit = PAGE_ROWS + 1
    if newer:
        bound = _bound(_visible_leaf(trail, scope, newer))
        found = list(trail.store.page(query, newer_than=bound, limit=limit))
        return _Listing(leaves=found[-PAGE_ROWS:], has_older=True, has_newer=len(found) == limit)
    below = _bound(_visible_leaf(trail, scope, older)) if older else None
    page_of = trail.store.page(query, older_than=below, limit=limit)
    return _Listing(
        leaves=page_of[:PAGE_ROWS], has_older=len(page_of) > PAGE_ROWS, has_newer=bool(older)
    )


def _bound(leaf: Leaf) -> tuple[int, int]:
    return (time_of(leaf.event), leaf.index)


def _turn(found: Filter, rows: Sequence[views.Row], direction: str) -> str:
    if not rows:
        return href("events", q=found.text)
    name = rows[-1].name if direction == "older" else rows[0].name
    return href("events", q=found.text, **{direction: name})


def _found(count: int, *, is_all: bool) -> str:
    if not is_all:
        return f"more than {count - 1:,} events"
    return "1 event" if count == 1 else f"{count:,} events"


def _links(found: Filter, *, older: str, newer: str) -> dict[str, Any]:
    return {
        "narrow": lambda field, value: href("events", q=found.narrowed(field, value)),
        "row_href": lambda name: href("events", q=found.text, older=older, newer=newer, event=name),
    }


def _drawer_values(trail: Trail, scope: Scope, found: Filter, leaf: Leaf) -> dict[str, Any]:
    proven: Proof | None = prove_event(trail, leaf) if scope.whole else None
    covered = proven.tree_size if proven else 0
    return {
        "drawer": views.drawer(leaf, covered_size=covered, numbered=scope.whole),
        "neighbours": _neighbours(trail, scope, leaf),
        "proof": proven,
        "token": form_token(scope.user, now_ms() // HOUR_MS),
        "revealed": "",
    }


def _neighbours(trail: Trail, scope: Scope, leaf: Leaf) -> list[views.Row]:
    emitter, seq = leaf.event.get("emitter"), leaf.event.get("seq")
    if not isinstance(seq, int):
        return []
    around = (
        leaf if at == seq else trail.store.find(f"{emitter}:{at}")
        for at in range(max(seq - NEIGHBOURS, 0), seq + NEIGHBOURS + 1)
    )
    return [
        views.row(near, covered_size=0, numbered=False)
        for near in around
        if near is not None and scope.covers(near.event)
    ]


def _looked(scope: Scope, what: str, name: str) -> Fact:
    return Fact(
        act="trail.view",
        phase="seen",
        result="ok",
        by=scope.user,
        more={"page": what, "query": name},
    )


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
