"""Reviews: give somebody a period to look at, write notes on events, sign it off; all as events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin import views
from airflow_secure_ml.plugin.access import Scope, WholeLogDep, check_form, form_token
from airflow_secure_ml.plugin.filters import parse_filter
from airflow_secure_ml.plugin.lookup import looked
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.review_views import MAX_NOTE_CHARS, ReviewViews
from airflow_secure_ml.plugin.routes_reports import day_ms
from airflow_secure_ml.plugin.trail import Trail, TrailDep, now_ms
from airflow_secure_ml.plugin.wording import up_to
from airflow_secure_ml.services.report_figures import DAY_MS, stamp, whole_period_before
from airflow_secure_ml.services.reviewing import Review, notes_on, reviews

# Each reads some hashes; whoever opens an older one compares it there.
COMPARED = 10
MAX_NAME_CHARS = 250
MAX_COUNTED = 10_000

router = APIRouter()


@router.get("/reviews")
def show_reviews(scope: WholeLogDep, trail: TrailDep) -> Response:
    """Every review, the newest first."""
    return _list(trail, scope, named=False)


@router.get("/review")
def show_review(scope: WholeLogDep, trail: TrailDep, name: str) -> Response:
    """One review with its notes."""
    return _one(trail, scope, _review(trail, name), named=False)


@router.post("/name-reviewers")
def name_reviewers(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    name: Annotated[str, Form()] = "",
) -> Response:
    """The same with names; that somebody looked at them is recorded first."""
    check_form(request, scope, token)
    found = _review(trail, name) if name else None
    trail.record(looked(scope, "reviews", name))
    if found is None:
        return _list(trail, scope, named=True)
    return _one(trail, scope, found, named=True)


@router.post("/assign-review")
def assign_review(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    first: Annotated[str, Form()],
    last: Annotated[str, Form()],
    person: Annotated[str, Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    """Give somebody a period to look at."""
    check_form(request, scope, token)
    _require(scope.may_administer, "assign reviews")
    begin, end = day_ms(first), day_ms(last) + DAY_MS
    if begin >= end:
        raise HTTPException(400, "The first day comes after the last; nothing was assigned.")
    who = _storable(person).strip()
    if not who or len(who) > MAX_NAME_CHARS:
        raise HTTPException(400, f"Name the reviewer, in 1 to {MAX_NAME_CHARS} characters.")
    more = {"from_ms": begin, "until_ms": end, "assignee": who, "note": _text(note) or None}
    fact = Fact(act="review.assign", phase="seen", result="ok", by=scope.user, more=more)
    [made] = trail.record(fact)
    return _see(trail, made, href("review", name=made), "reviews")


@router.post("/note-review")
def note_review(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    name: Annotated[str, Form()],
    note: Annotated[str, Form()],
    event: Annotated[str, Form()] = "",
) -> Response:
    """Write a note, on one event or on the whole of a review."""
    check_form(request, scope, token)
    _require(scope.may_acknowledge, "write notes")
    found, text = _review(trail, name), _text(note)
    if not text:
        raise HTTPException(400, "The note is empty; nothing was recorded.")
    of = event.strip()[:100] or found.name
    if trail.store.find(of) is None:
        raise HTTPException(404, "There is no event of that name; nothing was recorded.")
    more = {"review": found.name, "note": text}
    fact = Fact(act="review.note", phase="seen", result="ok", of=of, by=scope.user, more=more)
    [made] = trail.record(fact)
    target = href("note", event=of) if event else href("review", name=found.name)
    return _see(trail, made, target, target)


@router.post("/sign-review")
def sign_review(
    request: Request,
    scope: WholeLogDep,
    trail: TrailDep,
    token: Annotated[str, Form()],
    name: Annotated[str, Form()],
    size: Annotated[int, Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    """Sign a period off, over the checkpoint that the reviewer saw."""
    check_form(request, scope, token)
    _require(scope.may_acknowledge, "sign off reviews")
    found = _review(trail, name)
    shown = _views(trail, scope, named=False)
    _require(shown.is_mine(found), "sign off somebody else’s review")
    if not shown.is_open(found):
        raise HTTPException(409, "It is signed off already; nothing was recorded.")
    checkpoint = trail.signed().checkpoint
    if checkpoint is None or checkpoint.size < size:
        raise HTTPException(409, "No checkpoint holds over what you saw; look at Integrity.")
    missing = _not_coverable(trail, found, checkpoint.size)
    if missing:
        raise HTTPException(409, missing)
    more = {
        "from_ms": found.from_ms,
        "until_ms": found.until_ms,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "signer": checkpoint.origin,
        "note": _text(note) or None,
    }
    fact = Fact(
        act="review.sign", phase="seen", result="ok", of=found.name, by=scope.user, more=more
    )
    [made] = trail.record(fact)
    target = href("review", name=found.name)
    return _see(trail, made, target, target)


@router.get("/note")
def show_note(scope: WholeLogDep, trail: TrailDep, event: str) -> Response:
    """What reviewers wrote on one event, and a form to add to it."""
    leaf = trail.store.find(event[:100])
    if leaf is None:
        raise HTTPException(404, "There is no such event.")
    found, _ = reviews(trail.store)
    shown = _views(trail, scope, named=False)
    name = name_of(leaf.event)
    around = [review for review in found if shown.is_open(review)]
    values: dict[str, Any] = {
        "row": views.row(leaf, covered_size=trail.signed().size),
        "event_href": href("event", name=name),
        "notes": [shown.note(note, None) for note in notes_on(name, found)],
        "reviews": [shown.show(review, None, compares=False) for review in around],
        **_every(scope),
    }
    return page("note", "Reviews", whole=scope.whole, **values)


def _list(trail: Trail, scope: Scope, *, named: bool) -> Response:
    found, is_all = reviews(trail.store)
    newest, shown = trail.signed().checkpoint, _views(trail, scope, named=named)
    rows = [
        shown.show(review, newest, compares=number < COMPARED)
        for number, review in enumerate(found)
    ]
    begin, end = whole_period_before("month", now_ms())
    values: dict[str, Any] = {
        "reviews": rows,
        "is_all": is_all,
        "named": named,
        "first": stamp(begin),
        "last": stamp(end - DAY_MS),
        **_every(scope),
    }
    return page("reviews", "Reviews", whole=scope.whole, **values)


def _one(trail: Trail, scope: Scope, review: Review, *, named: bool) -> Response:
    signed = trail.signed()
    shown = _views(trail, scope, named=named)
    view = shown.show(review, signed.checkpoint)
    between = f"after:{view.after} before:{view.before}"
    values: dict[str, Any] = {
        "review": view,
        "named": named,
        "counts": _counts(trail, between),
        "report_href": href("report", first=view.after, last=stamp(review.until_ms - DAY_MS)),
        "missing": "" if view.signed else _not_coverable(trail, review, signed.size),
        "checkpoint": signed.checkpoint,
        "event_href": lambda name: href("event", name=name),
        **_every(scope),
    }
    return page("review", "Reviews", whole=scope.whole, **values)


def _counts(trail: Trail, between: str) -> list[tuple[str, str, str]]:
    """What there is to look at: (words, number, address)."""
    found = []
    for words, q in (
        ("events", between),
        ("refused", f"status:refused {between}"),
        ("failed", f"status:failed {between}"),
        ("alerts", f"act:alert.raise {between}"),
    ):
        query = parse_filter(q, now=datetime.now(UTC)).query
        count = trail.store.count(query, at_most=MAX_COUNTED + 1)
        found.append((words, up_to(count, MAX_COUNTED), href("events", q=q)))
    return found


def _every(scope: Scope) -> dict[str, Any]:
    return {
        "scope": scope,
        "max_chars": MAX_NOTE_CHARS,
        "token": form_token(scope.user),
    }


def _views(trail: Trail, scope: Scope, *, named: bool) -> ReviewViews:
    return ReviewViews(trail.store, scope.user, named=named)


def _review(trail: Trail, name: str) -> Review:
    found, _ = reviews(trail.store)
    for review in found:
        if review.name == name:
            return review
    raise HTTPException(404, "There is no such review.")


def _not_coverable(trail: Trail, review: Review, size: int) -> str:
    """Why a checkpoint over so many leaves is none to sign the period off with; empty: it is."""
    if review.until_ms > now_ms():
        return "The period is not over yet."
    later = EventQuery(from_ms=review.from_ms, until_ms=review.until_ms, above_index=size - 1)
    if trail.store.count(later, at_most=1):
        return "No checkpoint covers all of the period’s events yet; try again in a moment."
    return ""


def _require(may: bool, what: str) -> None:
    if not may:
        raise HTTPException(403, f"You may read here, but not {what}.")


def _text(given: str) -> str:
    text = _storable(given).replace("\r\n", "\n").strip()
    if len(text) > MAX_NOTE_CHARS:
        raise HTTPException(400, f"A note has at most {MAX_NOTE_CHARS:,} characters.")
    return text


def _storable(given: str) -> str:
    """What an event can hold; others are refused here, not by the log."""
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in given):
        raise HTTPException(400, "There are signs in it that no event can hold.")
    return given


def _see(trail: Trail, event: str, target: str, otherwise: str) -> Response:
    """Lead to the page that shows what was recorded, once the log has it."""
    # What is durable, but not sequenced yet, is shown a little later.
    return RedirectResponse(target if trail.has_taken(event) else otherwise, status_code=303)
