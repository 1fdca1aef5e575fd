"""An alert rule as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_secure_ml.core.alerts.matching import Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """Which events are counted, and how many of a group within what time are too many.

    Attributes:
        name: Its name: unique, lasting, part of every alert's identity.
        title: A few words.
        description: What it means, and what to do.
        level: One of `LEVELS`.
        digest: SHA-256 of the rule's own text, `sha256:…`.
        source: Where it was read from.
        conditions: An event that one of them fits is counted.
        acts: Activities that it can only be; empty: any.
        group_by: Fields; events are counted together that agree in all of them.
        timespan_ms: Within this time, by the events' own clocks.
        kind: Whether events are counted or a field's values.
        field: The field whose values are counted; empty: events are.
        at_least: From this many on.
        falsepositives: What else may be behind it.
    """

    name: str
    title: str
    description: str
    level: str
    digest: str
    source: str
    conditions: tuple[Expression, ...]
    acts: frozenset[str]
    group_by: tuple[str, ...]
    timespan_ms: int
    kind: Literal["event_count", "value_count"]
    field: str
    at_least: int
    falsepositives: tuple[str, ...] = ()
