"""Turn an EventQuery into SQL: a condition and its parameters, never text from outside.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from airflow_secure_ml.adapters.postgres_audit.schema import INDEXED_PATHS, MAX_INDEXED, PATHS
from airflow_secure_ml.core.audit.people import HashesBy
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.stored import Condition, any_of, areas_and_names, pattern_of

NOTHING: Condition = ("false", [])
# Each has one value, and a column.
_SINGLE = ("dag", "run", "task", "ti", "uri", "key", "version", "lease", "emitter", "text")
# Each has an index over words of an event, of which PostgreSQL knows little: in doubt it would read
# those words in every event.
_LOOKED_UP = ("digest", "host", "of", "by")
# So many activities are each looked for in an index.
_FEW_ACTS = 3

# The leaves that meet a condition; None: they are too many to be looked up one by one.
IndicesOf = Callable[[Condition], Sequence[int] | None]


def where(query: EventQuery, hashes_by: HashesBy, indices_of: IndicesOf) -> Condition:
    """The condition that a query stands for, without the word WHERE.

    Args:
        query: What is asked for.
        hashes_by: Finds what stands in events for a person.
        indices_of: Looks up leaves by the indices over words of an event.
    """
    parts: list[Condition] = [("true", [])]
    if query.dags is not None:
        parts.append(_one_of("dag", query.dags))
    given = [(name, getattr(query, name)) for name in _SINGLE]
    parts += [_holds(name, value, hashes_by) for name, value in given if value is not None]
    for name in _LOOKED_UP:
        value = getattr(query, name)
        if value is not None:
            condition = _holds(name, value, hashes_by)
            found = indices_of(condition)
            parts.append(condition if found is None else ("idx = ANY(%s)", [list(found)]))
    if query.acts:
        parts.append(_acts(query.acts))
    if query.results:
        parts.append(any_of(_holds("result", value, hashes_by) for value in query.results))
    if query.from_ms is not None:
        parts.append(("time >= %s", [query.from_ms]))
    if query.until_ms is not None:
        parts.append(("time < %s", [query.until_ms]))
    if query.above_index is not None:
        parts.append(("idx > %s", [query.above_index]))
    for name, value in query.excluded:
        text, got = _holds(name, value, hashes_by)
        parts.append((f"({text}) IS NOT TRUE", got))
    return " AND ".join(text for text, _ in parts), [value for _, got in parts for value in got]


def _acts(acts: Sequence[str]) -> Condition:
    """One of several activities or areas of them; many in words that take one look a leaf."""
    parted = areas_and_names([act for act in acts if _is_text(act)])
    if len(acts) <= _FEW_ACTS or parted is None:
        return any_of(_holds("act", act, lambda by: ()) for act in acts)
    return "(left(act, strpos(act, '.')) = ANY(%s) OR act = ANY(%s))", [*parted]


def column(name: str) -> str:
    """What a field is called in SQL: a column, or the words of the index over it."""
    if name in INDEXED_PATHS:
        return f"(left(data::jsonb #>> '{INDEXED_PATHS[name]}', {MAX_INDEXED}) COLLATE \"C\")"
    return f'"{name}"'


def _holds(name: str, value: str, hashes_by: HashesBy) -> Condition:
    """The condition that a field has a value."""
    if not _is_text(value):
        return NOTHING
    match name:
        case "act" if value[-1:] == ".":
            # "/" is the sign after ".": a range, which the index serves and a pattern would not.
            return "act >= %s AND act < %s", [value, value[:-1] + "/"]
        case "act":
            return "act = %s", [value]
        case "result" if value == "intent":
            return "result IS NULL", []
        case "result":
            return "result = %s", [value]
        case "text":
            return ("data ILIKE %s", [pattern_of(value)]) if value else ("true", [])
        case "host":
            text, got = _one_of("host", [value])
            on_host = f"SELECT emitter FROM asml_trail.leaf WHERE act = 'emitter.open' AND {text}"  # noqa: S608 - no text from outside
            return f"emitter IN ({on_host})", got
        case "by":
            return _one_of("by", hashes_by(value))
        case _:
            return _one_of(name, [value])


def _one_of(name: str, values: Iterable[str]) -> Condition:
    asked = [value for value in values if _is_text(value)]
    if not asked:
        return NOTHING
    # A column holds the start of a text: where that is all that fits, the event itself decides.
    starts = [value[:MAX_INDEXED] for value in asked]
    if all(len(value) < MAX_INDEXED for value in asked):
        return f"{column(name)} = ANY(%s)", [starts]
    path = {**PATHS, **INDEXED_PATHS}[name]
    return (
        f"{column(name)} = ANY(%s) AND data::jsonb #>> '{path}' = ANY(%s)",
        [starts, asked],
    )


def _is_text(value: str) -> bool:
    """Whether an event could hold it; PostgreSQL's types cannot even be asked for the rest."""
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
