"""Count what lies in a log's tables, within a time that does not grow with the log.

Source: PAGES, Events (histogram, facets).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit.failures import psycopg
from airflow_secure_ml.adapters.postgres_audit.queries import column
from airflow_secure_ml.core.audit.counting import (
    BUDGET_S,
    MAX_COUNTED,
    MAX_VALUED,
    SMALL,
    Bars,
    sampled_indices,
)
from airflow_secure_ml.core.audit.query import Histogram
from airflow_secure_ml.core.audit.stored import Condition

if TYPE_CHECKING:
    from psycopg import Connection

_SIZE = "SELECT (SELECT min(idx) FROM asml_trail.leaf), (SELECT size FROM asml_trail.log)"
_BAR = "(time - %s) / %s, count(*), count(*) FILTER (WHERE result = 'refused')"


def count_bars(connection: Connection[Any], condition: Condition, bars: Bars) -> Histogram:
    """How many leaves fall into each bar.

    Args:
        connection: A session for reading.
        condition: Which leaves.
        bars: The bars.
    """
    text, values = condition
    text = f"{text} AND time >= %s AND time < %s"
    values = [*values, bars.from_ms, bars.until_ms]
    sql = (
        f"SELECT {_BAR} FROM (SELECT time, result FROM asml_trail.leaf WHERE {text} LIMIT %s) "  # noqa: S608 - no text from outside
        "AS found GROUP BY 1"
    )
    first, size = _extent(connection)
    asked = [bars.from_ms, bars.bucket_ms, *values, MAX_COUNTED + 1]
    found = _soon(connection, sql, asked, is_small=size - first <= SMALL)
    if found is not None and sum(row[1] for row in found) <= MAX_COUNTED:
        return bars.filled(found, exact=True)
    indices = sampled_indices(first, size)
    sql = f"SELECT {_BAR} FROM asml_trail.leaf WHERE idx = ANY(%s) AND {text} GROUP BY 1"  # noqa: S608 - no text from outside
    asked = [bars.from_ms, bars.bucket_ms, indices, *values]
    found = connection.execute(sql, asked).fetchall()
    return bars.filled(found, scale=(size - first) / max(len(indices), 1), exact=False)


def newest_values(
    connection: Connection[Any], condition: Condition, field: str
) -> tuple[Counter[Any], bool]:
    """What a field holds in the newest leaves that match, and whether those are all.

    Args:
        connection: As in `count_bars`.
        condition: Which leaves.
        field: One of `VALUE_FIELDS`.
    """
    text, values = condition
    sql = (
        f"SELECT value, count(*) FROM (SELECT {column(field)} AS value FROM asml_trail.leaf "  # noqa: S608 - no text from outside
        f"WHERE {text} ORDER BY time DESC LIMIT %s) AS found GROUP BY 1"
    )
    first, size = _extent(connection)
    rows = _soon(connection, sql, [*values, MAX_VALUED + 1], is_small=size - first <= SMALL)
    found: Counter[Any] = Counter()
    for value, count in rows or ():
        found[value] += count
    return found, rows is not None and found.total() <= MAX_VALUED


def _extent(connection: Connection[Any]) -> tuple[int, int]:
    """The first leaf whose bytes are there, and the log's size."""
    row = connection.execute(_SIZE).fetchone()
    first, size = row or (None, None)
    return int(first or 0), int(size or 0)


def _soon(
    connection: Connection[Any], sql: str, values: Sequence[Any], *, is_small: bool
) -> list[tuple[Any, ...]] | None:
    """What a question gives; None: it would take longer than it may."""
    if is_small:
        return connection.execute(sql, values).fetchall()
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {round(BUDGET_S * 1000)}")
            return connection.execute(sql, values).fetchall()
    except psycopg().errors.QueryCanceled:
        return None
