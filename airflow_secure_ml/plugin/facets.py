"""Ways to narrow the list that the reader can click: by status, by activity, by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_secure_ml.plugin.filters import EVERYTHING, STATUSES, Filter
from airflow_secure_ml.plugin.rendering import href

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


def build(sample: Sequence[tuple[str, str]], found: Filter, *, is_all: bool) -> tuple[Facet, ...]:
    """The facets beside a filter, counted in what is at hand.

    Args:
        sample: (activity, result) of the newest events that match the filter.
        found: The filter that the choices change.
        is_all: Whether the sample is everything that matches; else counts are lower bounds.
    """
    results = Counter(result for _, result in sample)
    acts = Counter(act for act, _ in sample)

    def count(field: str, number: int) -> str:
        # Once a value is chosen, the sample says nothing of its alternatives.
        if found.value(field):
            return ""
        return f"{number:,}" if is_all else f"{number:,}+"

    statuses = tuple(
        _choice(
            found, "status", word, word, tone=tone, count=count("status", results[STATUSES[word]])
        )
        for word, tone in STATUS_CHOICES
    )
    activities = (
        _choice(found, "act", act, word, count=count("act", _below(acts, act)))
        for word, act in ACT_CHOICES
    )
    times = tuple(_choice(found, "after", value, label) for label, value in TIME_CHOICES)
    return (
        Facet(name="status", choices=statuses),
        Facet(name="activity", choices=tuple(act for act in activities if act.count != "0")),
        Facet(name="last", choices=times),
        Facet(name="show", choices=(_choice(found, "show", EVERYTHING, "everything"),)),
    )


def _below(acts: Counter[str], act: str) -> int:
    return sum(
        n for name, n in acts.items() if name == act or (act[-1] == "." and name.startswith(act))
    )


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that says enough."""
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = int(seconds // length)
            plural = "s" if unit == "day" and number != 1 else ""
            return f"{number} {unit}{plural} ago"
    return f"{int(seconds)} s ago"


def _choice(
    found: Filter, field: str, value: str, label: str, *, count: str = "", tone: str = ""
) -> Choice:
    chosen = found.value(field) == value
    text = found.without(field) if chosen else found.narrowed(field, value)
    shown = tone if count.strip("0+") else ""
    return Choice(label=label, href=href("events", q=text), count=count, tone=shown, chosen=chosen)
