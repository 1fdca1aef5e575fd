"""Ways to narrow the list that the reader can click: by status, by activity, by time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.plugin.filters import EVERYTHING, STATUSES, Filter
from airflow_secure_ml.plugin.rendering import href

# Counting goes no further: a page has to be there in 200 ms at a million events.
COUNT_AT_MOST = 1000
STATUS_CHOICES = (("allowed", ""), ("refused", "bad"), ("failed", "bad"), ("intent", ""))
ACT_CHOICES = (
    ("open", "object.open"),
    ("verify", "object.verify"),
    ("validate", "object.validate"),
    ("seal", "object.seal"),
    ("sign", "object.sign"),
    ("publish", "object.publish"),
    ("rules", "rule."),
    ("keys", "key."),
    ("log", "trail."),
)
TIME_CHOICES = (("1 h", "1h"), ("24 h", "24h"), ("7 days", "7d"), ("30 days", "30d"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value to click; a chosen one is clicked away again."""

    label: str
    href: str
    count: str = ""
    tone: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A named row of choices."""

    name: str
    choices: tuple[Choice, ...]


def build(store: AuditStore, query: EventQuery, found: Filter) -> tuple[Facet, ...]:
    """The facets beside a filter, with counts as far as they are quickly had.

    Args:
        store: Counts.
        query: The filter's query, limited to what the reader may see.
        found: The filter that the choices change.
    """

    def count(narrowed: EventQuery) -> str:
        # Words are searched in every event's text; nine such searches would be felt.
        if query.text:
            return ""
        number = store.count(narrowed, at_most=COUNT_AT_MOST + 1)
        return f"{COUNT_AT_MOST:,}+" if number > COUNT_AT_MOST else f"{number:,}"

    statuses = tuple(
        _choice(found, "status", label, label, tone=tone, count=count(_status(query, label)))
        for label, tone in STATUS_CHOICES
    )
    acts = (
        _choice(found, "act", act, label, count=count(replace(query, acts=(act,))))
        for label, act in ACT_CHOICES
    )
    times = tuple(_choice(found, "after", value, label) for label, value in TIME_CHOICES)
    return (
        Facet(name="status", choices=statuses),
        Facet(
            name="activity", choices=tuple(act for act in acts if act.chosen or act.count != "0")
        ),
        Facet(name="last", choices=times),
        Facet(name="show", choices=(_choice(found, "show", EVERYTHING, "everything"),)),
    )


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that says enough."""
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = int(seconds // length)
            plural = "s" if unit == "day" and number != 1 else ""
            return f"{number} {unit}{plural} ago"
    return f"{int(seconds)} s ago"


def _status(query: EventQuery, label: str) -> EventQuery:
    return replace(query, results=(STATUSES[label],))


def _choice(
    found: Filter, field: str, value: str, label: str, *, count: str = "", tone: str = ""
) -> Choice:
    chosen = found.value(field) == value
    text = found.without(field) if chosen else found.narrowed(field, value)
    shown = tone if count not in ("0", "") else ""
    return Choice(label=label, href=href("events", q=text), count=count, tone=shown, chosen=chosen)
