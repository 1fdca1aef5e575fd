"""Principals: the people, DAGs and workers that the log tells of, and what one of them did.

People and workers are for readers of the whole log. What tells of a person is recorded before it is
shown; until somebody asks for names, a person is the hash that stands in events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response

from airflow_secure_ml.core.audit.event_fields import text
from airflow_secure_ml.core.audit.query import EventQuery, Values
from airflow_secure_ml.plugin import principals_view
from airflow_secure_ml.plugin.access import Scope, ScopeDep, WholeLogDep, check_form, form_token
from airflow_secure_ml.plugin.lookup import looked
from airflow_secure_ml.plugin.period import parse_period
from airflow_secure_ml.plugin.principals_view import DAG, PERSON
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.plugin.wording import number_of, shortened, visible

LISTED = 50
OPENINGS = 1000
MAX_NAME = 1024
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """Somebody whose name was asked for."""

    name: str
    href: str
    count: str


@router.get("/principals")
def principals(scope: ScopeDep, trail: TrailDep) -> Response:
    """Who the log tells of; people without their names."""
    return _list_page(scope, trail, people=None)


@router.post("/people")
def people(
    request: Request, scope: WholeLogDep, trail: TrailDep, token: Annotated[str, Form()]
) -> Response:
    """The people by name; that somebody looked is recorded first."""
    check_form(request, scope, token)
    trail.record(looked(scope, "people"))
    return _list_page(scope, trail, people=trail.store.values(EventQuery(), "by", limit=LISTED))


@router.get("/principal")
def principal(
    scope: ScopeDep,
    trail: TrailDep,
    kind: str = DAG,
    id: str = "",
    after: str = "",
    before: str = "",
) -> Response:
    """What one person, DAG or worker did."""
    return _principal_page(scope, trail, kind, id[:MAX_NAME], after, before)


@router.post("/principal")
def principal_named(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    id: Annotated[str, Form()],
) -> Response:
    """The same for a person, with the name; that somebody looked is recorded first."""
    check_form(request, scope, token)
    return _principal_page(scope, trail, PERSON, id[:MAX_NAME], "", "", is_named=True)


def _list_page(scope: Scope, trail: Trail, *, people: Values | None) -> Response:
    dags = trail.store.values(scope.limit(EventQuery()), "dag", limit=LISTED + 1)
    opened = (
        trail.store.page(EventQuery(acts=("emitter.open",)), limit=OPENINGS) if scope.whole else ()
    )
    return page(
        "principals",
        "Principals",
        whole=scope.whole,
        dags=[
            (
                visible(name),
                href("principal", kind=DAG, id=name),
                number_of(count, is_exact=dags.is_exact),
            )
            for name, count in dags.values[:LISTED]
        ],
        has_more=len(dags.values) > LISTED or not dags.is_exact,
        workers=principals_view.workers(opened),
        openings=len(opened),
        is_all=len(opened) < OPENINGS,
        people=None if people is None else _people(trail, people),
        token=form_token(scope.user),
    )


def _people(trail: Trail, found: Values) -> list[_Person]:
    rows = []
    for name, count in found.values:
        # A link carries the hash: addresses end up in logs that nobody erases.
        newest = trail.store.page(EventQuery(by=name), limit=1)
        if newest:
            link = href("principal", kind=PERSON, id=_hash_in(newest[0].event.get("by")))
            rows.append(
                _Person(
                    name=visible(name), href=link, count=number_of(count, is_exact=found.is_exact)
                )
            )
    return rows


def _principal_page(
    scope: Scope,
    trail: Trail,
    kind: str,
    name: str,
    after: str,
    before: str,
    *,
    is_named: bool = False,
) -> Response:
    query = principals_view.query_of(kind, name)
    if query is None or not name:
        raise HTTPException(404, "A principal is a person, a dag or a worker.")
    if kind != DAG and not scope.whole:
        raise HTTPException(403, "People and workers are told of to readers of every DAG's log.")
    if kind == PERSON:
        # A name in an address would end up in logs that nobody erases.
        if not _HASH.fullmatch(name):
            raise HTTPException(404, "A person is named by the hash that stands in events.")
        trail.record(looked(scope, "principal", name))
    if not trail.store.page(scope.limit(query), limit=1):
        # One answer for "not there" and "not yours": which of the two must not be told.
        raise HTTPException(404, "No event among those that you may read is of such a principal.")
    period = parse_period(after, before)
    bounded = replace(query, from_ms=period.from_ms, until_ms=period.until_ms)
    shown = trail.store.reveal(name) if is_named else None
    return page(
        "principal",
        "Principals",
        whole=scope.whole,
        kind=kind,
        id=name,
        label=visible(shown) if shown else _label(kind, name),
        is_named=bool(shown),
        is_erased=is_named and not shown,
        period=period,
        view=principals_view.tell(trail.store, scope.limit(bounded), kind, name),
        event_href=lambda event: href("event", name=event),
        token=form_token(scope.user),
    )


def _label(kind: str, name: str) -> str:
    return f"Person {shortened(visible(name), keep=4)}" if kind == PERSON else visible(name)


def _hash_in(value: object) -> str:
    return text(value.get("h")) if isinstance(value, dict) else ""
