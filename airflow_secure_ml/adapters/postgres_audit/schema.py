"""What the audit log's tables are called, what their columns hold, what tells changed ones.

The tables themselves are made by `airflow_secure_ml.migrations`. Every column that pages filter by
is computed from the event's text: the full check computes them once more.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.audit.stored import EMITTER_COLUMNS, emitter_in
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH, hashes_in
from airflow_secure_ml.errors import AuditLogError

if TYPE_CHECKING:
    from psycopg import Connection

NAME = "asml_trail"
# Formats differ by their indices alone: a log of each is read and written in the same words.
FORMATS = (1, 2)
VERSION_TABLE = "version"
# A text column holds so many characters of what it is about; more would not fit an index.
MAX_INDEXED = 300
PATHS: Mapping[str, str] = MappingProxyType(
    {
        "emitter": "{emitter}",
        "act": "{act}",
        "result": "{result}",
        "dag": "{run,dag}",
        "run": "{run,run}",
        "task": "{run,task}",
        "ti": "{run,ti}",
        "uri": "{object,uri}",
        "key": "{key,name}",
        "lease": "{lease,id}",
    }
)
# What an index alone is over; no column holds it.
INDEXED_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "digest": "{object,digest}",
        "version": "{key,version}",
        "of": "{of}",
        "by": "{by,h}",
        "host": "{more,host}",
    }
)
NUMBERS = ("seq", "time")

_OBJECTS = """
WITH ours AS (
  SELECT c.* FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
  WHERE s.nspname = %(schema)s AND c.relname <> %(version)s AND c.relname <> %(version_key)s
)
SELECT concat_ws(' ', 'relation', relname, relkind, relpersistence, relrowsecurity,
                 relforcerowsecurity, relhasrules, relispartition)
FROM ours WHERE relkind <> 'i'
UNION ALL
SELECT concat_ws(' ', 'column', o.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                 a.attnotnull, a.attgenerated, a.attidentity,
                 (SELECT l.collname FROM pg_collation l
                  WHERE l.oid = a.attcollation AND l.collname <> 'default'),
                 pg_get_expr(d.adbin, d.adrelid))
FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
WHERE o.relkind NOT IN ('i', 'S')
UNION ALL
SELECT concat_ws(' ', 'index', i.indisvalid, i.indisready, i.indislive,
                 pg_get_indexdef(i.indexrelid))
FROM ours o JOIN pg_index i ON i.indrelid = o.oid
UNION ALL
SELECT concat_ws(' ', 'constraint', o.relname, k.conname, k.convalidated,
                 pg_get_constraintdef(k.oid))
FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid AND k.contype <> 'n'
UNION ALL
SELECT concat_ws(' ', 'trigger', o.relname, t.tgname)
FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
UNION ALL
SELECT concat_ws(' ', 'policy', o.relname, p.polname) FROM ours o JOIN pg_policy p
ON p.polrelid = o.oid
UNION ALL
SELECT concat_ws(' ', 'parent', o.relname) FROM ours o JOIN pg_inherits h
ON h.inhrelid = o.oid OR h.inhparent = o.oid
UNION ALL
SELECT concat_ws(' ', 'function', f.proname)
FROM pg_proc f JOIN pg_namespace s ON s.oid = f.pronamespace WHERE s.nspname = %(schema)s
"""
# Servers of different releases set these differently when they write an expression out.
_NOISE = re.compile(r"[()\s\"]|::text(\[\])?")


def objects(connection: Connection[Any]) -> frozenset[str]:
    """Everything in the log's schema that decides what its tables hold, one line each."""
    named = {"schema": NAME, "version": VERSION_TABLE, "version_key": f"{VERSION_TABLE}_pkc"}
    rows = connection.execute(_OBJECTS, named).fetchall()
    return frozenset(" ".join(_NOISE.sub(" ", str(line)).split()) for (line,) in rows)


@cache
def expected_objects(number: int) -> frozenset[str]:
    """What `objects` gives for a log of a format that nobody changed."""
    file = Path(__file__).with_name(f"expected_catalog_{number}.txt")
    return frozenset(file.read_text(encoding="utf-8").splitlines())


def differing(connection: Connection[Any], number: int) -> list[str]:
    """What is not as a format has it, in words; nothing: all is."""
    if number not in FORMATS:
        return [f"format {number} is not known, expected one of {FORMATS}"]
    stored, expected = objects(connection), expected_objects(number)
    named = sorted({" ".join(line.split()[:3]) for line in stored ^ expected})
    return [f"{name} is not as this release makes it" for name in named[:10]]


def stored_format(connection: Connection[Any]) -> int:
    """The format that a log says it has; of one that is not begun, the format of its tables."""
    row = connection.execute("SELECT format FROM asml_trail.log").fetchone()
    if row is not None:
        return row[0] if isinstance(row[0], int) else 0
    stored = objects(connection)
    return next((n for n in FORMATS if stored == expected_objects(n)), FORMATS[-1])


_DIFFERS = [
    *(f"\"{name}\" IS DISTINCT FROM left(j #>> '{path}', 300)" for name, path in PATHS.items()),
    *(f"{name} IS DISTINCT FROM (j #>> '{{{name}}}')::bigint" for name in NUMBERS),
]
# Of one text parsed once; without OFFSET it would be parsed for every column.
FIRST_DIFFERING_COLUMN = (
    "SELECT min(idx) FROM (SELECT *, data::jsonb AS j FROM asml_trail.leaf OFFSET 0) AS parsed "  # noqa: S608 - of constants
    f"WHERE {' OR '.join(_DIFFERS)}"
)


def read_emitters(connection: Connection[Any], states: Collection[str]) -> tuple[EmitterRow, ...]:
    """The rows of emitters in one of these states."""
    sql = f"SELECT {EMITTER_COLUMNS} FROM asml_trail.emitter WHERE state = ANY(%s) ORDER BY id"  # noqa: S608 - a constant
    return tuple(emitter_in(row) for row in connection.execute(sql, [list(states)]))


def read_emitter(connection: Connection[Any], emitter: str) -> EmitterRow | None:
    """An emitter's row."""
    sql = f"SELECT {EMITTER_COLUMNS} FROM asml_trail.emitter WHERE id = %s"  # noqa: S608 - a constant
    row = connection.execute(sql, [emitter]).fetchone()
    return None if row is None else emitter_in(row)


def read_hashes(connection: Connection[Any], start: int, stop: int) -> tuple[bytes, ...]:
    """Stored leaf hashes of indices start … stop-1; those of pruned leaves from full tiles."""
    rows = connection.execute(
        "SELECT hash FROM asml_trail.leaf WHERE idx >= %s AND idx < %s ORDER BY idx", [start, stop]
    )
    found = tuple(row[0] for row in rows)
    missing = stop - start - len(found)
    if missing <= 0:
        return found
    return (*hashes_in(lambda n: read_tile(connection, 0, n), start, start + missing), *found)


def read_tile(connection: Connection[Any], level: int, n: int) -> bytes | None:
    """A full tile's bytes; None: not stored."""
    row = connection.execute(
        "SELECT hashes FROM asml_trail.tile WHERE level = %s AND n = %s", [level, n]
    ).fetchone()
    return None if row is None else bytes(row[0])


def require_tiles(connection: Connection[Any], first: int, below: int) -> None:
    """Refuse unless full tiles hold the hashes of the leaves first … below-1."""
    low, high = first // TILE_WIDTH, below // TILE_WIDTH
    row = connection.execute(
        "SELECT count(*) FROM asml_trail.tile WHERE level = 0 AND n >= %s AND n < %s", [low, high]
    ).fetchone()
    if row is None or row[0] != high - low:
        raise AuditLogError(
            f"audit log: tiles of the leaves {first} to {below - 1} are missing; nothing is pruned",
            index=first,
        )
