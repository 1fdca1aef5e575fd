"""Turn an EventQuery into SQL: a condition and its parameters, never text from outside.

The same words fit a log of each format: what a later one has besides is looked up faster.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.stored import Condition, any_of, pattern_of

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
# More names than SQLite takes parameters would be an error, so they travel as one text.
_IN = "{column} IN (SELECT value FROM json_each(?))"
_ON_HOST = (
    "emitter IN (SELECT emitter FROM leaf WHERE act = 'emitter.open' AND data->>'$.more.host' = ?)"
)
# Given singly, in the order in which they narrow a search.
_SINGLE = (
    *("dag", "run", "task", "ti", "uri", "digest", "key", "version", "lease", "emitter", "host"),
    *("of", "by", "text"),
)

# The hashes that stand for a person.
HashesBy = Callable[[str], Sequence[str]]


def where(query: EventQuery, hashes_by: HashesBy) -> Condition:
    """The condition that a query stands for, without the word WHERE.

    Args:
        query: What is asked for.
        hashes_by: Finds what stands in events for a person.
    """
    parts: list[Condition] = [("1", [])]
    if query.dags is not None:
        parts.append((_IN.format(column="dag"), [json.dumps(query.dags)]))
    given = [(name, getattr(query, name)) for name in _SINGLE]
    parts += [_holds(name, value, hashes_by) for name, value in given if value is not None]
    for name, values in (("act", query.acts), ("result", query.results)):
        if values:
            parts.append(any_of(_holds(name, value, hashes_by) for value in values))
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


def _holds(name: str, value: str, hashes_by: HashesBy) -> Condition:
    """The condition that a field has a value."""
    match name:
        case "act" if value[-1:] == ".":
            # "/" is the sign after ".": a range, which the index serves and a pattern would not.
            return "act >= ? AND act < ?", [value, value[:-1] + "/"]
        case "result" if value == "intent":
            return "result IS NULL", []
        case "text":
            return (r"data LIKE ? ESCAPE '\'", [pattern_of(value)]) if value else ("1", [])
        case "host":
            return _ON_HOST, [value]
        case "by":
            return _IN.format(column=COLUMNS[name]), [json.dumps(hashes_by(value))]
        case _:
            return f"{COLUMNS[name]} = ?", [value]
