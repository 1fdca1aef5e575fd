"""Read an event's fields where it may be forged or edited: what has another type is left out.

Whoever records, and the tests of formats, hold events to their types by `core.audit.event`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The first moment, ms since 1970 UTC, whose year has five digits: none of an event is written.
END_MS = 253_402_300_800_000


def part(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that should be an object; an empty one if it is anything else."""
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}


def text(value: object) -> str:
    """A text; empty for a hidden value and anything else."""
    return value if isinstance(value, str) else ""


def number(value: object, default: int = 0) -> int:
    """An integer that an event may hold; else the default."""
    # An edited log may hold any number; SQLite and clocks do not take every one.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    return default


def is_of_a_task(event: Mapping[str, Any]) -> bool:
    """Whether an event says that a task recorded it."""
    return "task" in part(event, "run")


def name_of(event: Mapping[str, Any]) -> str:
    """The event's name, `<emitter>:<seq>`."""
    return f"{event.get('emitter', '')}:{event.get('seq', '')}"
