"""Turn an EventQuery into SQL: a condition and its parameters, never text from outside.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_secure_ml.adapters.postgres_audit.schema import MAX_INDEXED, PATHS
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.stored import Condition, any_of, pattern_of

NOTHING: Condition = ("false", [])


def where(query: EventQuery) -> Condition:
    """The condition that a query stands for, without the word WHERE."""
    parts: list[Condition] = [("true", [])]
    if query.dags is not None:
        parts.append(_one_of("dag", query.dags))
    columns = ("dag", "run", "task", "ti", "uri", "key", "emitter")
    given = [(column, getattr(query, column)) for column in columns]
    parts += [_one_of(column, [value]) for column, value in given if value is not None]
    if query.acts:
        parts.append(any_of(_act(act) for act in query.acts))
    if query.results:
        parts.append(any_of(_result(result) for result in query.results))
    if query.text:
        parts.append(_contains(query.text))
    if query.from_ms is not None:
        parts.append(("time >= %s", [query.from_ms]))
    if query.until_ms is not None:
        parts.append(("time < %s", [query.until_ms]))
    if query.above_index is not None:
        parts.append(("idx > %s", [query.above_index]))
    return " AND ".join(text for text, _ in parts), [value for _, got in parts for value in got]


def _one_of(column: str, values: Iterable[str]) -> Condition:
    asked = [value for value in values if _is_text(value)]
    if not asked:
        return NOTHING
    # A column holds the start of a text: where that is all that fits, the event itself decides.
    starts = [value[:MAX_INDEXED] for value in asked]
    if all(len(value) < MAX_INDEXED for value in asked):
        return f'"{column}" = ANY(%s)', [starts]
    return (
        f"\"{column}\" = ANY(%s) AND data::jsonb #>> '{PATHS[column]}' = ANY(%s)",
        [starts, asked],
    )


def _act(act: str) -> Condition:
    if not _is_text(act):
        return NOTHING
    # "/" is the sign after ".": a range, which the index serves and a pattern would not.
    return (
        ("act = %s", [act])
        if act[-1:] != "."
        else ("act >= %s AND act < %s", [act, act[:-1] + "/"])
    )


def _result(result: str) -> Condition:
    if result == "intent":
        return "result IS NULL", []
    return ("result = %s", [result]) if _is_text(result) else NOTHING


def _contains(text: str) -> Condition:
    if not _is_text(text):
        return NOTHING
    return "data ILIKE %s", [pattern_of(text)]


def _is_text(value: str) -> bool:
    """Whether an event could hold it; PostgreSQL's types cannot even be asked for the rest."""
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
