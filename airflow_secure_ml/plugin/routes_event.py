"""One event: all it says, with its proof, and who did it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin import views
from airflow_secure_ml.plugin.access import Scope, ScopeDep, WholeLogDep, check_form, form_token
from airflow_secure_ml.plugin.audit_path import drawing
from airflow_secure_ml.plugin.filters import Filter, parse_filter
from airflow_secure_ml.plugin.lookup import looked, visible_leaf
from airflow_secure_ml.plugin.proofs import Proof, prove_event
from airflow_secure_ml.plugin.rendering import fragment, href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.plugin.wording import is_hidden, visible

NEIGHBOURS = 2
# What the trail calls the two files that prove an event.
_PROOF_FORMS = {"json": "proof", "tlog-proof": "tlog-proof"}

router = APIRouter()


@router.get("/event")
def event(scope: ScopeDep, trail: TrailDep, name: str, q: str = "", part: str = "") -> Response:
    """One event; with `part`, only what the list's drawer shows."""
    leaf = visible_leaf(trail, scope, name)
    return _event_page(trail, scope, leaf, q=q, part=part)


@router.post("/person")
def person(
    request: Request,
    scope: ScopeDep,
    trail: TrailDep,
    name: Annotated[str, Form()],
    token: Annotated[str, Form()],
) -> Response:
    """Show who did something; that this was looked at is recorded first."""
    check_form(request, scope, token)
    leaf = visible_leaf(trail, scope, name)
    hidden = leaf.event.get("by")
    if not is_hidden(hidden):
        raise HTTPException(404, "This event names no person.")
    trail.record(looked(scope, "person", name))
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
    check_form(request, scope, token)
    leaf = visible_leaf(trail, scope, name)
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


def links(found: Filter, *, older: str = "", newer: str = "") -> dict[str, Any]:
    """How templates make addresses of the list from values."""
    return {
        "narrow": lambda *pairs: href("events", q=found.narrowed(*pairs)),
        "about": _about,
        "search_href": lambda text: href("events", q=text),
        "exclude": lambda field, value: href("events", q=found.excluding(field, value)),
        "row_href": lambda name: href("events", q=found.text, older=older, newer=newer, event=name),
    }


def _about(finds: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The page about what is found so: its words and its address; two empty ones if none."""
    match [*finds]:
        case [("object", uri)]:
            return "its whole life", href("object", uri=uri)
        case [("key", name)]:
            return "its versions and uses", href("key", name=name)
    return "", ""


def drawer_values(trail: Trail, scope: Scope, leaf: Leaf) -> dict[str, Any]:
    """What the drawer's template shows of an event."""
    proven: Proof | None = prove_event(trail, leaf) if scope.whole else None
    covered = proven.tree_size if proven else 0
    return {
        "drawer": views.drawer(leaf, covered_size=covered, numbered=scope.whole),
        "neighbours": _neighbours(trail, scope, leaf),
        "proof": proven,
        "drawn": drawing(proven.index, proven.tree_size, proven.path) if proven else None,
        "token": form_token(scope.user),
        "revealed": "",
    }


def _event_page(
    trail: Trail, scope: Scope, leaf: Leaf, *, q: str = "", part: str = "", revealed: str = ""
) -> Response:
    found = parse_filter(q, now=datetime.now(UTC))
    values = links(found) | drawer_values(trail, scope, leaf)
    values |= {"revealed": revealed, "close_href": href("events", q=q)}
    if part:
        return HTMLResponse(fragment("_drawer", scope_whole=scope.whole, **values))
    return page("event", "Events", whole=scope.whole, **values)


def _neighbours(trail: Trail, scope: Scope, leaf: Leaf) -> list[views.Row]:
    emitter, seq = leaf.event.get("emitter"), leaf.event.get("seq")
    if not isinstance(seq, int):
        return []
    around = (
        leaf if at == seq else trail.store.find(f"{emitter}:{at}")
        for at in range(max(seq - NEIGHBOURS, 0), seq + NEIGHBOURS + 1)
    )
    return [
        views.unplaced(near) for near in around if near is not None and scope.covers(near.event)
    ]
