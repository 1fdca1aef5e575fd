"""Turn an EventQuery into SQL: a condition and its parameters, never text from outside.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events.
"""

from __future__ import annotations

import json

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.stored import Condition, any_of, pattern_of

# A task with more names than SQLite takes parameters would be an error, so they travel as one text.
_IN = "{column} IN (SELECT value FROM json_each(?))"


def where(query: EventQuery) -> Condition:
    """The condition that a query stands for, without the word WHERE."""
    parts: list[Condition] = [("1", [])]
    if query.dags is not None:
        parts.append((_IN.format(column="dag"), [json.dumps(query.dags)]))
    columns = (
        ("dag", query.dag),
        ("run", query.run),
        ("task", query.task),
        ("ti", query.ti),
        ("uri", query.uri),
        ('"key"', query.key),
        ("emitter", query.emitter),
    )
    parts += [(f"{column} = ?", [value]) for column, value in columns if value is not None]
    if query.acts:
        parts.append(any_of(_act(act) for act in query.acts))
    if query.results:
        parts.append(any_of(_result(result) for result in query.results))
    if query.text:
        parts.append((r"data LIKE ? ESCAPE '\'", [pattern_of(query.text)]))
    if query.from_ms is not None:
        parts.append(("time >= ?", [query.from_ms]))
    if query.until_ms is not None:
        parts.append(("time < ?", [query.until_ms]))
    if query.above_index is not None:
        parts.append(("idx > ?", [query.above_index]))
    return " AND ".join(text for text, _ in parts), [value for _, got in parts for value in got]


def _act(act: str) -> Condition:
    # "/" is the sign after ".": a range, which the index serves and a pattern would not.
    return (
        ("act = ?", [act]) if act[-1:] != "." else ("act >= ? AND act < ?", [act, act[:-1] + "/"])
    )


def _result(result: str) -> Condition:
    return ("result IS NULL", []) if result == "intent" else ("result = ?", [result])
