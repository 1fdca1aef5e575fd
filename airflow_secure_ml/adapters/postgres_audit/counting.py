"""Count what lies in a log's tables, within a time that does not grow with the log.

Source: PAGES, Events (histogram, facets).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit.failures import psycopg
from airflow_secure_ml.adapters.postgres_audit.queries import column
from airflow_secure_ml.core.audit import counting
from airflow_secure_ml.core.audit.counting import Bars, sampled_indices
from airflow_secure_ml.core.audit.query import Histogram
from airflow_secure_ml.core.audit.stored import Condition

if TYPE_CHECKING:
    from psycopg import Connection

_SIZE = "SELECT (SELECT min(idx) FROM asml_trail.leaf), (SELECT size FROM asml_trail.log)"
_NO_TEXT = "''"
_BAR = "(time - %s) / %s"
_COUNTS = f"{_BAR}, count(*), count(*) FILTER (WHERE result = 'refused')"


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
    first, size = _extent(connection)
    is_small = size - first <= counting.SMALL
    found = _counted(connection, _COUNTS, (text, values), bars, is_small=is_small)
    if found is not None:
        return bars.exact(found)
    refused = (f"{text} AND result = 'refused'", values)
    indices = sampled_indices(first, size)
    sql = f"SELECT {_COUNTS} FROM asml_trail.leaf WHERE idx = ANY(%s) AND {text} GROUP BY 1"  # noqa: S608 - no text from outside
    asked = [bars.from_ms, bars.bucket_ms, indices, *values]
    sampled = connection.execute(sql, asked).fetchall()
    return bars.estimate(
        sampled,
        (size - first) / max(len(indices), 1),
        _counted(connection, f"{_BAR}, count(*)", refused, bars, is_small=is_small),
    )


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
    named = column(field)
    # Few events name a person: those are found by their own index, which has no order of time.
    which = f"{named} IS NOT NULL" if field == "by" else "true ORDER BY time DESC, idx DESC"
    sql = (
        f"SELECT value, count(*) FROM (SELECT {named} AS value FROM asml_trail.leaf "  # noqa: S608 - no text from outside
        f"WHERE {text} AND {which} LIMIT %s) AS found GROUP BY 1"
    )
    first, size = _extent(connection)
    # One more tells whether there are more; it is counted only if there are not.
    limit = counting.MAX_VALUED
    is_small = size - first <= counting.SMALL
    rows = _soon(connection, sql, [*values, limit + 1], is_small=is_small)
    found = Counter(dict(rows or ()))
    if found.total() > limit:
        rows = _soon(connection, sql, [*values, limit], is_small=is_small)
        found = Counter(dict(rows or ()))
    elif rows is not None:
        return found, True
    if field in counting.LISTED:
        for value in _listed(connection, condition, named, is_small=is_small):
            found[value] = max(found[value], 1)
    return found, False


def _listed(
    connection: Connection[Any], condition: Condition, named: str, *, is_small: bool
) -> list[str]:
    """Values of a column in their own order, from one to the next by its index."""
    text, values = condition

    def after(value: str) -> str:
        return (
            f"SELECT {named} FROM asml_trail.leaf WHERE {text} AND {named} > {value} "  # noqa: S608 - no text from outside
            "ORDER BY 1 LIMIT 1"
        )

    sql = (
        f"WITH RECURSIVE listed(value) AS (SELECT ({after(_NO_TEXT)}) UNION ALL "  # noqa: S608 - as above
        f"SELECT ({after('listed.value')}) FROM listed WHERE listed.value IS NOT NULL) "
        "SELECT value FROM listed WHERE value IS NOT NULL LIMIT %s"
    )
    asked = [*values, *values, counting.MAX_LISTED]
    return [value for (value,) in _soon(connection, sql, asked, is_small=is_small) or ()]


def _counted(
    connection: Connection[Any], counts: str, condition: Condition, bars: Bars, *, is_small: bool
) -> list[tuple[Any, ...]] | None:
    """Rows of bars; None: there are too many leaves, or it takes longer than it may."""
    text, values = condition
    sql = (
        f"SELECT {counts} FROM (SELECT time, result FROM asml_trail.leaf "  # noqa: S608 - no text from outside
        f"WHERE {text} LIMIT %s) AS found GROUP BY 1"
    )
    asked = [bars.from_ms, bars.bucket_ms, *values, counting.MAX_COUNTED + 1]
    found = _soon(connection, sql, asked, is_small=is_small)
    if found is None or sum(row[1] for row in found) > counting.MAX_COUNTED:
        return None
    return found


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
            limit_ms = max(round(counting.BUDGET_S * 1000), 1)
            connection.execute(f"SET LOCAL statement_timeout = {limit_ms}")
            return connection.execute(sql, values).fetchall()
    except psycopg().errors.QueryCanceled:
        return None
