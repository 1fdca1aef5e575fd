"""Export: what a filter finds as a file, or evidence that others check without us; on record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin import views
from airflow_secure_ml.plugin.access import ExportDep, Scope, check_form, form_token
from airflow_secure_ml.plugin.exports import ExportResponse, RecordedExport
from airflow_secure_ml.plugin.filters import Filter, parse_filter
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.services.event_files import Piece, event_pieces
from airflow_secure_ml.services.evidence import FORMAT, MAX_SELECTED, Beside, Selection, write_pack
from airflow_secure_ml.services.evidence_beside import beside_events

# Counting further would be felt; whoever exports more sees the number grow.
MAX_COUNTED = 100_000
EXPORTS_SHOWN = 5
_READ_BYTES = 1 << 18
_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "pack": "application/zip",
    "whole": "application/zip",
}
# What the trail calls the forms.
_RECORDED = {"jsonl": "jsonl", "csv": "csv", "pack": FORMAT, "whole": FORMAT}
_WHOLE_LOG = Selection().words

router = APIRouter()


@router.get("/export")
def show_export(scope: ExportDep, trail: TrailDep, q: str = "") -> Response:
    """What would be exported, how much it is, and in which forms."""
    found = parse_filter(q, now=datetime.now(UTC))
    values: dict[str, Any] = {"filter": found, "back_href": href("events", q=found.text)}
    values |= {"count": 0, "is_all": True, "max_packed": MAX_SELECTED, "exports": []}
    if not found.problems:
        query = scope.limit(found.query)
        count = trail.store.count(query, at_most=MAX_COUNTED + 1)
        values |= {"count": min(count, MAX_COUNTED), "is_all": count <= MAX_COUNTED}
    if scope.whole:
        size = trail.signed().size
        made = EventQuery(acts=("trail.export",), results=("ok", "failed", "refused"))
        leaves = trail.store.page(made, limit=EXPORTS_SHOWN)
        values["exports"] = [views.row(leaf, covered_size=size) for leaf in leaves]
    values["event_href"] = lambda name: href("events", q="act:trail.export", event=name)
    values["token"] = form_token(scope.user)
    return page("export", "Events", whole=scope.whole, **values)


@router.post("/export")
def export(
    request: Request,
    scope: ExportDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    form: Annotated[Literal["jsonl", "csv", "pack", "whole"], Form()],
    q: Annotated[str, Form()] = "",
) -> Response:
    """The file; nothing of it is sent before it is on record that it is asked for."""
    check_form(request, scope, token)
    found = parse_filter(q, now=datetime.now(UTC))
    if found.problems and form != "whole":
        raise HTTPException(400, "The filter was not understood, so nothing was exported.")
    words = _WHOLE_LOG if form == "whole" else recorded_words(found)
    facts = {"format": _RECORDED[form], "query": words}
    query = scope.limit(found.query)
    if form in ("jsonl", "csv"):
        made = RecordedExport(trail, scope.user, facts)
        made.of(event_pieces(trail.store, query, form))
    else:
        selection = Selection(query=None if form == "whole" else query, words=words)
        beside = _beside(trail, scope, selection)
        made = RecordedExport(trail, scope.user, facts)
        made.of(_pack(trail, selection, beside, made))
    suffix = "zip" if form in ("pack", "whole") else form
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{suffix}"
    return ExportResponse(made, filename=name, media_type=_TYPES[form])


def recorded_words(found: Filter) -> str:
    """A filter as events hold it: a person's name would stay in them for ever."""
    tokens = (
        f"{str(token).partition(':')[0]}:(a person)" if token.field == "by" else str(token)
        for token in found.tokens
    )
    return " ".join(tokens) or "everything but what the log says of itself"


def _beside(trail: Trail, scope: Scope, selection: Selection) -> Beside:
    """What a pack needs beside its events; refused before anything is recorded or sent."""
    if not scope.whole:
        raise HTTPException(
            403, "A pack tells how large the whole log is; it needs the right to every DAG's log."
        )
    query = selection.query
    if query is not None and trail.store.count(query, at_most=MAX_SELECTED + 1) > MAX_SELECTED:
        raise HTTPException(
            409,
            f"More than {MAX_SELECTED:,} events match; narrow the filter, or take the whole log.",
        )
    verifier = resources.files("airflow_secure_ml.verifier").joinpath("verify.py").read_bytes()
    return beside_events(trail.store, trail.book, trail.log_keys(), verifier)


def _pack(
    trail: Trail, selection: Selection, beside: Beside, export: RecordedExport
) -> Iterator[Piece]:
    """A pack is made whole before its first byte: a part of one would prove nothing."""
    # On disk and without a name: it may be larger than memory, and nothing of it stays.
    with tempfile.TemporaryFile() as file:
        packed = write_pack(
            trail.store,
            selection,
            beside,
            file,
            progress=lambda done, total: export.stop_if_given_up(),
        )
        events = packed.events
        file.seek(0)
        while data := file.read(_READ_BYTES):
            yield Piece(events=events, data=data)
            events = 0
