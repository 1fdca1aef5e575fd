"""Integrity: what would be noticed, the checkpoint, the spool, and checking the whole log now."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import StreamingResponse

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin import facets, integrity, views
from airflow_secure_ml.plugin.access import Scope, WholeLogDep, check_form, form_token
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.plugin.verification import Verdict, as_lines, verify_now
from airflow_secure_ml.plugin.wording import size
from airflow_secure_ml.services.endings import badly_ended

CHECKS_SHOWN = 5

router = APIRouter()


@router.get("/integrity")
def show_integrity(scope: WholeLogDep, trail: TrailDep, old: str = "") -> Response:
    """What the log proves, against whom, and whether an old checkpoint still fits."""
    compared = integrity.compare(trail, old) if old.strip() else None
    return _page(trail, scope, old=old, compared=compared)


@router.post("/verify")
def verify(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    old: Annotated[str, Form()] = "",
) -> Response:
    """Derive the whole log again; as lines of JSON with progress, or as a page at the end."""
    check_form(request, scope, token)
    steps = verify_now(trail, scope.user, integrity.tidy(old) if old.strip() else "")
    if "application/x-ndjson" in request.headers.get("accept", ""):
        return StreamingResponse(as_lines(steps), media_type="application/x-ndjson")
    verdict = [step for step in steps if isinstance(step, Verdict)][-1]
    return _page(trail, scope, old=old, verdict=verdict)


def _page(trail: Trail, scope: Scope, *, old: str, **said: Verdict | None) -> Response:
    settings = trail.settings
    signed = trail.signed()
    spools = integrity.spool_states(integrity.spool_folders(settings), now_s=time.time())
    checks = trail.store.page(
        EventQuery(acts=("trail.verify",), results=("ok", "failed", "refused")), limit=CHECKS_SHOWN
    )
    endings = badly_ended(trail.store)
    values: dict[str, Any] = {
        "endings": integrity.ended_rows(endings),
        "more_endings": f"{endings.more:,}" + ("" if endings.is_all else " or more"),
        "has_more_endings": endings.more > 0,
        "verdict": None,
        "compared": None,
        "old": old,
        "signed": signed,
        "signed_size": f"{signed.size:,}",
        "events": f"{trail.store.size():,}",
        "uncovered": f"{trail.store.size() - signed.size:,}",
        "level": integrity.level(trail),
        "noticed": integrity.NOTICED,
        "not_noticed": integrity.NOT_NOTICED,
        "spools": spools,
        "sequencer": integrity.sequencer_line(settings.audit_dir),
        "keys": trail.log_keys(),
        "checks": [views.row(leaf, covered_size=signed.size) for leaf in checks],
        "event_href": lambda name: href("events", q="act:trail.verify", event=name),
        "ending_href": lambda name: href("events", q="show:everything", event=name),
        "token": form_token(scope.user),
        "size": size,
        "ago": facets.ago,
    }
    return page("integrity", "Integrity", whole=scope.whole, **(values | said))
