"""Count what lies in a log's file, within a time that does not grow with the log.

Source: PAGES, Events (histogram, facets).
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_secure_ml.adapters.sqlite_audit.opening import STEPS, limit
from airflow_secure_ml.adapters.sqlite_audit.queries import COLUMNS
from airflow_secure_ml.core.audit import counting
from airflow_secure_ml.core.audit.counting import Bars, sampled_indices
from airflow_secure_ml.core.audit.query import Histogram
from airflow_secure_ml.core.audit.stored import Condition

# SQLite's steps that one leaf takes at most.
_STEPS_A_LEAF = 50
_NO_TEXT = "''"
_BAR = "(time - ?) / ?"
_COUNTS = f"{_BAR}, count(*), sum(result IS 'refused')"


def count_bars(
    connection: sqlite3.Connection, condition: Condition, bars: Bars, due_s: float | None
) -> Histogram:
    """How many leaves fall into each bar.

    Args:
        connection: The log.
        condition: Which leaves.
        bars: The bars.
        due_s: When all of it is broken off, as in `limit`.
    """
    text, values = condition
    text = f"{text} AND time >= ? AND time < ?"
    values = [*values, bars.from_ms, bars.until_ms]
    found = _counted(connection, _COUNTS, (text, values), bars, due_s)
    if found is not None:
        return bars.exact(found)
    refused = (f"{text} AND result = 'refused'", values)
    sampled, scale = _sampled(connection, (text, values), bars)
    return bars.estimate(
        sampled, scale, _counted(connection, f"{_BAR}, count(*)", refused, bars, due_s)
    )


def newest_values(
    connection: sqlite3.Connection, condition: Condition, field: str, due_s: float | None
) -> tuple[Counter[Any], bool]:
    """What a field holds in the newest leaves that match, and whether those are all.

    Args:
        connection: As in `count_bars`.
        condition: Which leaves.
        field: One of `VALUE_FIELDS`.
        due_s: As in `count_bars`.
    """
    text, values = condition
    column = COLUMNS[field]
    # Few events name a person: those are found by their own index, which has no order of time.
    which = f"{column} IS NOT NULL" if field == "by" else "1 ORDER BY time DESC"
    sql = f"SELECT {column} FROM leaf WHERE {text} AND {which} LIMIT ?"  # noqa: S608 - no text from outside
    found: Counter[Any] = Counter()
    exact = False
    with _budget(connection, due_s):
        rows = connection.execute(sql, [*values, counting.MAX_VALUED + 1])
        for number, (value,) in enumerate(rows):
            if number == counting.MAX_VALUED:
                break
            found[value] += 1
        else:
            exact = True
    if not exact and field in counting.LISTED:
        for value in _listed(connection, condition, column, due_s):
            found[value] = max(found[value], 1)
    return found, exact


def _listed(
    connection: sqlite3.Connection, condition: Condition, column: str, due_s: float | None
) -> list[Any]:
    """Values of a column in their own order, from one to the next by its index."""
    text, values = condition

    def after(value: str) -> str:
        return f"SELECT {column} FROM leaf WHERE {text} AND {column} > {value} ORDER BY 1 LIMIT 1"  # noqa: S608 - no text from outside

    sql = (
        f"WITH RECURSIVE listed(value) AS (SELECT ({after(_NO_TEXT)}) UNION ALL "  # noqa: S608 - as above
        f"SELECT ({after('value')}) FROM listed WHERE value IS NOT NULL) "
        "SELECT value FROM listed WHERE value IS NOT NULL LIMIT ?"
    )
    found: list[Any] = []
    with _budget(connection, due_s):
        for (value,) in connection.execute(sql, [*values, *values, counting.MAX_LISTED]):
            # Not all at once: what was found before it is broken off counts.
            found.append(value)
    return found


def _counted(
    connection: sqlite3.Connection,
    counts: str,
    condition: Condition,
    bars: Bars,
    due_s: float | None,
) -> list[tuple[Any, ...]] | None:
    """Rows of bars; None: there are too many leaves, or it takes longer than it may."""
    text, values = condition
    sql = (
        f"SELECT {counts} FROM (SELECT time, result FROM leaf WHERE {text} LIMIT ?) "  # noqa: S608 - no text from outside
        "GROUP BY 1"
    )
    found = None
    with _budget(connection, due_s):
        asked = [bars.from_ms, bars.bucket_ms, *values, counting.MAX_COUNTED + 1]
        found = connection.execute(sql, asked).fetchall()
    if found is None or sum(row[1] for row in found) > counting.MAX_COUNTED:
        return None
    return found


def _sampled(
    connection: sqlite3.Connection, condition: Condition, bars: Bars
) -> tuple[list[tuple[Any, ...]], float]:
    """Rows of bars from a part of the leaves, and how many leaves one of them stands for."""
    text, values = condition
    first, size = connection.execute(
        "SELECT (SELECT min(idx) FROM leaf), (SELECT size FROM log)"
    ).fetchone()
    indices = sampled_indices(first or 0, size)
    # CROSS: from the sample to the leaves, whatever index the condition would fit.
    sql = (
        f"SELECT {_COUNTS} FROM (SELECT value AS sampled FROM json_each(?)) CROSS JOIN leaf "  # noqa: S608 - no text from outside
        f"ON idx = sampled WHERE {text} GROUP BY 1"
    )
    asked = [bars.from_ms, bars.bucket_ms, json.dumps(indices), *values]
    rows = connection.execute(sql, asked).fetchall()
    return rows, (size - (first or 0)) / max(len(indices), 1)


@contextmanager
def _budget(connection: sqlite3.Connection, due_s: float | None) -> Iterator[None]:
    """Break off what takes longer than it may; what follows the block then goes on without it."""
    over_s, looks = time.monotonic() + counting.BUDGET_S, itertools.count()
    least = counting.SMALL * _STEPS_A_LEAF // STEPS

    def is_over() -> bool:
        return next(looks) >= least and time.monotonic() >= over_s

    connection.set_progress_handler(is_over, STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        limit(connection, due_s)
