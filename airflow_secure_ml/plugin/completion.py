"""Offer what may stand at one place of the filter box: fields, and values that the log holds.

Pure but for the store's counts. Names of people are not offered: showing them would have to be
recorded first. What is offered comes from the events that this reader may see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_secure_ml.core.audit.catalogue import ACTIVITIES
from airflow_secure_ml.core.audit.query import ValueField
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.filter_words import MAX_FILTER_CHARS, Token, words
from airflow_secure_ml.plugin.filters import (
    EVERYTHING,
    FIELDS,
    NEVER_EXCLUDED,
    STATUSES,
    parse_filter,
)
from airflow_secure_ml.plugin.wording import number_of, visible

MAX_OFFERS = 12
# Values that are looked through for what was typed.
LOOKED_AT = 200
FROM_LOG: Mapping[str, ValueField] = {
    "dag": "dag",
    "task": "task",
    "object": "uri",
    "key": "key",
    "emitter": "emitter",
    "act": "act",
}
HINTS = {
    "dag": "a DAG’s id",
    "task": "a task’s id",
    "run": "a DAG run’s id",
    "status": "allowed, refused, failed …",
    "act": "what was done, such as object.open",
    "object": "the address of data",
    "key": "a key’s name",
    "version": "a version of that key",
    "digest": "what data hashes to, sha256:…",
    "lease": "the id of a lease, sha256:…",
    "by": "who did it; asking is recorded",
    "host": "the machine it was recorded on",
    "emitter": "the process that recorded it",
    "ti": "a task instance’s id",
    "of": "the event that it is about",
    "after": "from then on: a day, a moment, 7d",
    "before": "until then",
    "show": "everything, the log’s own work too",
}
TIMES = (
    ("1h", "an hour ago"), ("24h", "a day ago"), ("7d", "a week ago"), ("30d", "30 days ago"),
    ("90d", "90 days ago"),
)  # fmt: skip
_KNOWN: Mapping[str, tuple[tuple[str, str], ...]] = {
    "status": tuple((word, "") for word in STATUSES if word != "ok"),
    "after": TIMES,
    "before": TIMES,
    "show": ((EVERYTHING, "the log's own work too"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing that may stand there.

    Attributes:
        insert: What to write into the box.
        label: The same for the eye.
        hint: What it is, or how many events have it.
    """

    insert: str
    label: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the caret stands.

    Attributes:
        start: Where the word begins that it stands in or behind, characters.
        stop: Where that word ends.
        field: The word's field; empty: it has none yet.
        typed: What was typed of the field or of its value.
        is_excluded: Whether the word begins with `-`.
    """

    start: int
    stop: int
    field: str
    typed: str
    is_excluded: bool


def place(text: str, at: int) -> Place:
    """What word of a box's content the caret stands in.

    Args:
        text: The content.
        at: How many characters stand before the caret.
    """
    at = min(max(at, 0), len(text))
    start = _begin(text[:at])
    ends = [stop for begin, stop in _spans(text) if begin == start and stop >= at]
    stop = ends[0] if ends else at + len(text[at:].split(" ", 1)[0])
    word = text[start:at]
    is_excluded = word.startswith("-")
    field, colon, typed = word.removeprefix("-").partition(":")
    if not colon or field not in FIELDS:
        field, typed = "", word.removeprefix("-")
    return Place(
        start=start, stop=stop, field=field, typed=typed.removeprefix('"'), is_excluded=is_excluded
    )


def _begin(before: str) -> int:
    """Where the word begins that is not ended yet; a quotation may hold spaces."""
    last = max(_spans(before), default=(len(before), len(before)))
    return last[0] if last[1] == len(before) else len(before)


def _spans(text: str) -> list[tuple[int, int]]:
    tokens, problems = words(text)
    return [(token.start, token.stop) for token in tokens] + [
        (problem.start, problem.stop) for problem in problems
    ]


def offers(
    store: AuditStore, scope: Scope, text: str, found: Place, *, now: datetime
) -> tuple[Offer, ...]:
    """What may stand at a place, the likeliest first.

    Args:
        store: The log.
        scope: What the reader may see.
        text: The box's content.
        found: Where the caret stands in it.
        now: The moment that `after:7d` counts back from, UTC.
    """
    if not found.field:
        return tuple(_fields(found))[:MAX_OFFERS]
    if found.field in FROM_LOG:
        values = _from_log(store, scope, text, found, now=now)
    else:
        values = _KNOWN.get(found.field, ())
    typed = found.typed.casefold()
    begin = [pair for pair in values if pair[0].casefold().startswith(typed)]
    within = [pair for pair in values if typed in pair[0].casefold() and pair not in begin]
    return tuple(
        Offer(
            insert=str(Token(field=found.field, value=value, is_excluded=found.is_excluded)) + " ",
            label=visible(value, limit=120),
            hint=hint,
        )
        for value, hint in [*begin, *within][:MAX_OFFERS]
    )


def _fields(found: Place) -> Iterable[Offer]:
    sign = "-" if found.is_excluded else ""
    for field in FIELDS:
        if field.startswith(found.typed) and not (sign and field in NEVER_EXCLUDED):
            hint = f"all but {HINTS[field]}" if sign else HINTS[field]
            yield Offer(insert=f"{sign}{field}:", label=f"{sign}{field}:", hint=hint)


def _from_log(
    store: AuditStore, scope: Scope, text: str, found: Place, *, now: datetime
) -> tuple[tuple[str, str], ...]:
    """(value, how many events have it) among those that the rest of the box finds."""
    rest = text[:MAX_FILTER_CHARS]
    others = parse_filter(rest[: found.start] + rest[found.stop :], now=now)
    if others.problems:
        others = parse_filter("", now=now)
    # What this tells is not recorded, so it says nothing of a person.
    query = parse_filter(others.cleared("by", found.field), now=now).query
    counted = store.values(scope.limit(query), FROM_LOG[found.field], limit=LOOKED_AT)
    here = tuple(
        (value, number_of(number, is_exact=counted.is_exact)) for value, number in counted.values
    )
    if found.field != "act":
        return here
    known = dict(here)
    return here + tuple((act, "") for act in sorted(ACTIVITIES) if act not in known)
