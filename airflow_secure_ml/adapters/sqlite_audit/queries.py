"""Turn an EventQuery into SQL: a condition and its parameters, never text from outside.

The same words fit a log of each format: what a later one has besides is looked up faster.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events; SQLite, "Query Planner" (unary plus).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from airflow_secure_ml.core.audit.people import HashesBy
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.stored import Condition, any_of, areas_and_names, pattern_of

# What a field is called in SQL: a column, or the words of the index over it.
COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in ("dag", "run", "task", "ti", "act", "result", "uri", "emitter")},
        "key": '"key"',
        "lease": "lease",
        "digest": "data->>'$.object.digest'",
        "version": "data->>'$.key.version'",
        "of": "data->>'$.of'",
        "by": "data->>'$.by.h'",
    }
)
NOTHING: Condition = ("0", [])
# More names than SQLite takes parameters would be an error, so they travel as one text.
_IN = "{column} IN (SELECT value FROM json_each(?))"
_ON_HOST = "SELECT emitter FROM leaf WHERE act = 'emitter.open' AND data->>'$.more.host' = ?"
# Each has one value, and an index in which leaves lie in order of time, or few leaves.
_SINGLE = (
    *("dag", "run", "task", "ti", "uri", "digest", "key", "version", "lease", "emitter", "of"),
    "text",
)

# Whether so few leaves meet a condition that all of them may be looked up and sorted.
IsRare = Callable[[Condition], bool]


def where(query: EventQuery, hashes_by: HashesBy, is_rare: IsRare) -> Condition:
    """The condition that a query stands for, without the word WHERE.

    Args:
        query: What is asked for.
        hashes_by: Finds what stands in events for a person.
        is_rare: Decides between an index of one field and that of all times.
    """
    parts: list[Condition] = [("1", []), *_of_many(query, hashes_by, is_rare)]
    given = [(name, getattr(query, name)) for name in _SINGLE]
    parts += [_holds(name, value, hashes_by) for name, value in given if value is not None]
    if query.results:
        parts.append(any_of(_holds("result", value, hashes_by) for value in query.results))
    if query.from_ms is not None:
        parts.append(("time >= ?", [query.from_ms]))
    if query.until_ms is not None:
        parts.append(("time < ?", [query.until_ms]))
    if query.above_index is not None:
        parts.append(("idx > ?", [query.above_index]))
    for name, value in query.excluded:
        text, values = _holds(name, value, hashes_by)
        parts.append((f"({text}) IS NOT TRUE", values))
    return " AND ".join(text for text, _ in parts), [value for _, got in parts for value in got]


def _of_many(query: EventQuery, hashes_by: HashesBy, is_rare: IsRare) -> Iterator[Condition]:
    """Conditions that several values meet: of those no index has the leaves in order of time."""
    if query.dags is not None:
        yield _steered(_among("dag", query.dags), is_rare)
    for name, value in (("host", query.host), ("by", query.by)):
        if value is not None:
            yield _steered(_holds(name, value, hashes_by), is_rare)
    if len(query.acts) == 1:
        yield _holds("act", query.acts[0], hashes_by)
    elif query.acts:
        ranges = any_of(_holds("act", act, hashes_by) for act in query.acts)
        yield ranges if is_rare(ranges) else _acts(query.acts)


def _steered(condition: Condition, is_rare: IsRare) -> Condition:
    """A condition that keeps SQLite from its index where that would find too many to sort."""
    text, values = condition
    return condition if not values or is_rare(condition) else (f"+{text}", values)


def _among(name: str, values: Sequence[str]) -> Condition:
    if not values:
        return NOTHING
    return _IN.format(column=COLUMNS[name]), [json.dumps(values)]


def _acts(acts: Sequence[str]) -> Condition:
    """The same as ranges, in words that take one look a leaf however many there are."""
    parted = areas_and_names(acts)
    if parted is None:
        return any_of(_holds("act", act, lambda by: ()) for act in acts)
    area, names = _IN.format(column="substr(act, 1, instr(act, '.'))"), _IN.format(column="+act")
    return f"({area} OR {names})", [json.dumps(values) for values in parted]


def _holds(name: str, value: str, hashes_by: HashesBy) -> Condition:
    """The condition that a field has a value."""
    # No event holds a lone surrogate, and SQLite cannot be asked for one.
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        return NOTHING
    match name:
        case "act" if value[-1:] == ".":
            # "/" is the sign after ".": a range, which the index serves and a pattern would not.
            return "act >= ? AND act < ?", [value, value[:-1] + "/"]
        case "result" if value == "intent":
            return "result IS NULL", []
        case "text":
            return (r"data LIKE ? ESCAPE '\'", [pattern_of(value)]) if value else ("1", [])
        case "host":
            return f"emitter IN ({_ON_HOST})", [value]
        case "by":
            return _among("by", hashes_by(value))
        case _:
            return f"{COLUMNS[name]} = ?", [value]
