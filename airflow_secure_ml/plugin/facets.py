"""Ways to narrow the list that the reader can click: by status, by activity, by DAG, by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.audit.query import ValueField, Values
from airflow_secure_ml.plugin.filters import EVERYTHING, STATUSES, Filter
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.wording import number_of, visible

STATUS_CHOICES = (
    ("allowed", ""), ("refused", "bad"), ("failed", "bad"), ("unknown", "look"), ("intent", ""),
)  # fmt: skip
ACT_CHOICES = (
    ("open", "object.open"),
    ("verify", "object.verify"),
    ("validate", "object.validate"),
    ("seal", "object.seal"),
    ("sign", "object.sign"),
    ("publish", "object.publish"),
    ("rules", "rule."),
    ("leases", "lease."),
    ("keys", "key."),
    ("people", "user."),
    ("alerts", "alert."),
    ("log", "trail."),
)
TIME_CHOICES = (("1 h", "1h"), ("24 h", "24h"), ("7 days", "7d"), ("30 days", "30d"))
# Field of the box: what the store counts, and how many values are looked at.
COUNTED: Mapping[str, tuple[ValueField, int]] = {
    "status": ("result", 10),
    "act": ("act", 100),
    "dag": ("dag", 6),
    "key": ("key", 5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value to click; a chosen one is clicked away again.

    Attributes:
        label: What it is called.
        href: The list with it, or without it if it is chosen or left out.
        but: The list with everything else; empty where that makes no sense.
        count: How many events have it; empty if that is not known.
        tone: One of the style sheet's meanings; empty for none.
        state: `chosen`, `left out` or empty.
    """

    label: str
    href: str
    but: str = ""
    count: str = ""
    tone: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A named row of choices."""

    name: str
    choices: tuple[Choice, ...]


def build(counted: Mapping[str, Values], found: Filter) -> tuple[Facet, ...]:
    """The facets beside a filter.

    Args:
        counted: For each field of COUNTED, its values among the events that match what the filter
            says of the other fields.
        found: The filter that the choices change.
    """
    statuses = _numbers(counted["status"])
    acts = _numbers(counted["act"])
    rows = [
        Facet(
            name="status",
            choices=tuple(
                _choice(
                    found,
                    "status",
                    word,
                    number_of(n, is_exact=counted["status"].is_exact),
                    tone=tone if n else "",
                )
                for word, tone in STATUS_CHOICES
                if (n := statuses.get(STATUSES[word], 0)) or word in ("allowed", "refused")
            ),
        ),
        Facet(
            name="activity",
            choices=tuple(
                _choice(
                    found, "act", act, number_of(n, is_exact=counted["act"].is_exact), label=word
                )
                for word, act in ACT_CHOICES
                if (n := _below(acts, act)) or _is_said(found, "act", act)
            ),
        ),
    ]
    for field in ("dag", "key"):
        facet = Facet(name=field, choices=tuple(_named(found, field, counted[field])))
        if len(facet.choices) > 1 or any(choice.state for choice in facet.choices):
            rows.append(facet)
    everything = _choice(found, "show", EVERYTHING, "", label="everything", is_only=True)
    return (*rows, Facet(name="show", choices=(everything,)))


def times(found: Filter) -> tuple[Choice, ...]:
    """How far back the list may go; any time is a choice too."""
    after = found.value("after")
    is_any = not after and not found.value("before")
    anytime = Choice(
        label="any time",
        href=href("events", q=found.between("", "")),
        state="chosen" if is_any else "",
    )
    lasts = (
        Choice(
            label=label,
            href=href("events", q=found.between(value, "")),
            state="chosen" if after == value and not found.value("before") else "",
        )
        for label, value in TIME_CHOICES
    )
    return (*lasts, anytime)


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that says enough."""
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = int(seconds // length)
            plural = "s" if unit == "day" and number != 1 else ""
            return f"{number} {unit}{plural} ago"
    return f"{int(seconds)} s ago"


def _numbers(counted: Values) -> Mapping[str, int]:
    return dict(counted.values)


def _below(acts: Mapping[str, int], act: str) -> int:
    return sum(
        n for name, n in acts.items() if name == act or (act[-1] == "." and name.startswith(act))
    )


def _is_said(found: Filter, field: str, value: str) -> bool:
    return value in (found.value(field), *found.excluded(field))


def _named(found: Filter, field: str, counted: Values) -> Iterable[Choice]:
    """The most frequent values, and those that the filter names."""
    numbers = _numbers(counted)
    said = [value for value in (found.value(field), *found.excluded(field)) if value]
    for value in dict.fromkeys([*numbers, *said]):
        number = numbers.get(value)
        count = "" if number is None else number_of(number, is_exact=counted.is_exact)
        yield _choice(found, field, value, count, label=visible(value, limit=40))


def _choice(
    found: Filter,
    field: str,
    value: str,
    count: str,
    *,
    label: str = "",
    tone: str = "",
    is_only: bool = False,
) -> Choice:
    if found.value(field) == value:
        state, text = "chosen", found.without(field)
    elif value in found.excluded(field):
        state, text = "left out", found.including(field, value)
    else:
        state, text = "", found.narrowed((field, value))
    but = "" if state or is_only else href("events", q=found.excluding(field, value))
    return Choice(
        label=label or value, href=href("events", q=text), but=but, count=count, tone=tone,
        state=state,
    )  # fmt: skip
