"""Alerts: what needs a person, what it rests on, and what that person says to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.plugin import alert_views, views
from airflow_secure_ml.plugin.access import AcknowledgeDep, Scope, ScopeDep, check_form, form_token
from airflow_secure_ml.plugin.addresses import events_href
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.plugin.wording import is_hidden, visible
from airflow_secure_ml.relay_ports import alert_rules
from airflow_secure_ml.services.alert_states import (
    ACKNOWLEDGED,
    CLOSED,
    OPEN,
    STATUSES,
    Alert,
    alert_states,
)
from airflow_secure_ml.services.alerting import evaluated_to

log = logging.getLogger(__name__)
# What alerts are made of; older ones are found among the events.
MAX_EVENTS = 3000
ROWS, EVIDENCE = 200, 20
MAX_NOTE = 500

router = APIRouter()


@router.get("/alerts")
def alerts(
    scope: ScopeDep,
    trail: TrailDep,
    status: str = OPEN,
    level: str = "",
    alert: str = "",
    said: str = "",
) -> Response:
    """What needs somebody, the gravest first; one of them beside the list."""
    if status not in STATUSES or level not in ("", *LEVELS):
        raise HTTPException(404, "There is no such list of alerts.")
    found, is_all = _states(trail, scope)
    shown = alert_views.chosen(found, status, level)
    in_force, problem = _rules(trail)
    values: dict[str, Any] = {
        "rows": [alert_views.alert_row(each) for each in shown[:ROWS]],
        "choices": alert_views.choices(found, status, level),
        "listed": status,
        "level": level,
        "is_all": is_all and len(shown) <= ROWS,
        "total": f"{len(shown):,}",
        "row_href": lambda name: href("alerts", status=status, level=level, alert=name),
        "close_href": href("alerts", status=status, level=level),
        "dag_href": lambda dag: events_href(("dag", dag)),
        "rules": in_force,
        "rules_problem": problem,
        "standing": _standing(trail, scope),
        "waits": bool(said) and trail.store.find(said[:100]) is None,
        "drawer": None,
    }
    if alert:
        values |= _drawer(trail, scope, _one(found, alert), in_force)
    return page("alerts", "Alerts", whole=scope.whole, **values)


@router.get("/rules")
def rules(scope: ScopeDep, trail: TrailDep) -> Response:
    """What is looked for, the gravest first."""
    found, problem = _rules(trail)
    said = alert_views.rules_said(found, _states(trail, scope)[0])
    return page("rules", "Alerts", whole=scope.whole, rules=said, problem=problem)


@router.post("/alerts")
def answer(
    request: Request,
    scope: AcknowledgeDep,
    trail: TrailDep,
    name: Annotated[str, Form()],
    token: Annotated[str, Form()],
    what: Annotated[Literal["acknowledge", "close"], Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    """Take what a person says to an alert: an event, in the log before the page is shown again."""
    check_form(request, scope, token)
    text = " ".join(note.split())
    if not 0 < len(text) <= MAX_NOTE:
        raise HTTPException(
            422, f"Say why, in at most {MAX_NOTE} letters: whoever reads it later was not there."
        )
    alert = _one(_states(trail, scope)[0], name)
    if alert.status == CLOSED:
        raise HTTPException(409, "This alert is closed already.")
    (said,) = trail.record(_said(alert, what, scope, text))
    # Where it takes longer, the page says so.
    trail.has_taken(said)
    if what == "acknowledge":
        target = href("alerts", status=ACKNOWLEDGED, alert=name, said=said)
    else:
        target = href("alerts", status=OPEN, said=said)
    return RedirectResponse(target, status_code=303)


def _said(alert: Alert, what: str, scope: Scope, note: str) -> Fact:
    return Fact(
        act="alert.close" if what == "close" else "alert.acknowledge",
        phase="seen",
        result="ok",
        of=alert.name,
        # Whoever may see the alert of a DAG may see what became of it.
        run=RunRef(dag=alert.dag, run="") if alert.dag else None,
        by=scope.user,
        more={
            "about": alert.about or None,
            "subject": alert.subject or None,
            "alert": alert.alert or None,
            "note": note,
        },
    )


def _states(trail: Trail, scope: Scope) -> tuple[list[Alert], bool]:
    leaves = trail.store.page(scope.limit(EventQuery(acts=("alert.",))), limit=MAX_EVENTS)
    return alert_states(leaves), len(leaves) < MAX_EVENTS


def _one(found: Sequence[Alert], name: str) -> Alert:
    alert = next((each for each in found if each.name == name), None)
    # One answer for "not there" and "not yours": which of the two must not be told.
    if alert is None:
        raise HTTPException(404, "There is no such alert among those that you may read.")
    return alert


def _rules(trail: Trail) -> tuple[Sequence[AlertRule], str]:
    """The rules in force, and why they cannot be read; empty: they can."""
    try:
        return alert_rules(trail.settings), ""
    except ConfigurationError as error:
        return (), visible(str(error), limit=600)


def _standing(trail: Trail, scope: Scope) -> Mapping[str, str] | None:
    """How far the rules have looked; None: it is not for this reader, or not known here."""
    if not scope.whole or not trail.settings.has_alert_rules:
        return None
    try:
        looked, troubles = evaluated_to(trail.book), trail.book.troubles()
    except SecureMLError as error:
        log.warning("how far the alert rules have looked is not known: %s", error)
        return None
    if looked is None:
        return None
    because = next((each.because for each in troubles if each.job == "alerts"), "")
    behind = max(trail.store.size() - looked, 0)
    return {
        "looked": f"{looked:,}",
        "behind": f"{behind:,}" if behind else "",
        "because": visible(because),
    }


def _drawer(trail: Trail, scope: Scope, alert: Alert, rules: Sequence[AlertRule]) -> dict[str, Any]:
    rule = next((each for each in rules if each.name == alert.rule), None)
    return {
        "drawer": alert_views.alert_row(alert),
        "rule": rule,
        "description": visible(rule.description, limit=2000) if rule else "",
        "others": [visible(each) for each in rule.falsepositives] if rule else [],
        "evidence": _evidence(trail, scope, alert),
        "more_evidence": max(alert.count - EVIDENCE, 0),
        "answers": [_answer_said(trail, each) for each in alert.answers],
        "raised": views.when(alert.raised_ms),
        "raised_href": href("events", q="act:alert.", event=alert.name),
        "rule_name": visible(alert.rule or alert.about),
        "left": [visible(name) for name in sorted(alert.left)[:EVIDENCE]],
        "token": form_token(scope.user),
        "may_answer": scope.may_acknowledge,
        "max_note": MAX_NOTE,
        "event_href": lambda name: href("events", q="show:everything", event=name),
    }


def _evidence(trail: Trail, scope: Scope, alert: Alert) -> list[views.Row]:
    found = (trail.store.find(name) for name in reversed(alert.events[-EVIDENCE:]))
    return [views.unplaced(leaf) for leaf in found if leaf is not None and scope.covers(leaf.event)]


def _answer_said(trail: Trail, answer: Any) -> Mapping[str, Any]:
    note = answer.note
    if is_hidden(note):
        value = trail.store.reveal(str(note["h"]))
        note = "the reason was erased" if value is None else value
    return {
        "event": answer.event,
        "verb": "Closed" if answer.act == "alert.close" else "Acknowledged",
        "who": "by a person" if answer.is_person else "by the check that raised it",
        "when": views.when(answer.time_ms),
        "note": visible(note, limit=MAX_NOTE + 1),
        "icon": "check" if answer.act == "alert.close" else "clock",
    }
