"""Which fields a rule may name: those that events really have, and a few that are derived.

A name that no event can hold would make a rule that never fires, and nobody would notice.

Source: Sigma 2.1, Taxonomy; docs/audit-events.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.catalogue import ACTIVITIES
from airflow_secure_ml.core.audit.event import FIELDS, is_hidden

PRODUCT = "airflow_secure_ml"
# What is worked out from the log for an event; text unless `int` or `flag`.
DERIVED: Mapping[str, str] = {
    # How far the clock jumped against the steady one since this process's event before, ms.
    "derived.clock_jump_ms": "int",
    # The DAG never used this key before, and others have for more than a week.
    "derived.is_new_dag_for_key": "flag",
    # Where the process began to record; of a trail.emitter or trail.refused, the one it is about.
    "derived.host": "text",
    "derived.program": "text",
}
_NUMBERS = frozenset({"seq", "time", "run.map", "run.try", "object.bytes", "object.rows"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A hidden value: the same person has the same one, and no text is known of it."""

    hash: str


def field_kinds(name: str, acts: Collection[str]) -> frozenset[str]:
    """The kinds that a field may have in events of some activities; empty: there is no such field.

    Args:
        name: Dotted, such as `more.waiting_bytes`.
        acts: Activities that the rule asks for; empty: any.

    Returns:
        Of `text`, `int`, `flag`, `list`.
    """
    if name in DERIVED:
        return frozenset({DERIVED[name]})
    if name in FIELDS:
        number = name in _NUMBERS or name == "lease.ttl_s"
        return frozenset({"int" if number else "text"})
    part, _, fact = name.partition(".")
    if part != "more" or not fact:
        return frozenset()
    found: set[str] = set()
    for act in acts or ACTIVITIES:
        for facts in ACTIVITIES[act].facts.values():
            if fact in facts:
                found.add(_kind(facts[fact]))
    return frozenset(found)


def _kind(types: tuple[type, ...]) -> str:
    names = {str: "text", int: "int", bool: "flag", list: "list"}
    return names[types[0]]


def values_of(event: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """What an event holds in a field: none, one or, in a list, many values.

    A hidden value is a `Hidden`, which no text fits; an object in a list gives its own values.
    """
    found: Any = event
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return ()
        found = found[part]
    return tuple(_flat(found))


def _flat(found: Any) -> list[Any]:
    if is_hidden(found):
        return [Hidden(hash=str(found["h"]))]
    if isinstance(found, list | tuple):
        return [value for each in found for value in _flat(each)]
    if isinstance(found, Mapping):
        return [value for each in found.values() for value in _flat(each)]
    return [found]
