"""What a log's rows say and what rows a batch makes, whatever store they lie in.

Statements and sessions are each store's own. Nothing that was read is believed to be well-formed:
who owns the store may be the attacker.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal

from airflow_secure_ml.core.audit.ports import Batch, EmitterRow
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.subject import AsideRow, Subjects, exchanged_rows, rows_of
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.errors import AuditLogError, FormatError

MAX_PAGE = 1000
# What 2**53 - 1, the largest seq of an event, needs.
_MAX_SEQ_DIGITS = 16

_EMITTER = tuple(field.name for field in fields(EmitterRow))
# The columns of table emitter, as `emitter_in` and `emitter_rows` have them.
EMITTER_COLUMNS = ", ".join(_EMITTER)

# (time, index) of a leaf.
Place = tuple[int, int]
# A condition in SQL and the values of its parameters.
Condition = tuple[str, list[Any]]


def any_of(conditions: Iterable[Condition]) -> Condition:
    """The condition that one of several holds."""
    found = list(conditions)
    return f"({' OR '.join(text for text, _ in found)})", [v for _, got in found for v in got]


def pattern_of(text: str) -> str:
    r"""What a leaf that contains a text is LIKE, `\` being its sign of escape."""
    # The stored text is JSON, so a quote in it has a backslash before it.
    stored = json.dumps(text, ensure_ascii=False)[1:-1]
    for sign in "\\%_":
        stored = stored.replace(sign, "\\" + sign)
    return f"%{stored}%"


def areas_and_names(acts: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Activities that a query names, parted: whole areas such as `object.`, and single ones.

    None: a longer beginning is among them, such as `key.use.`.
    """
    areas = [act for act in acts if act and act.find(".") == len(act) - 1]
    names = [act for act in acts if act not in areas]
    return None if any(act[-1:] == "." for act in names) else (areas, names)


def page_limit(asked: int) -> int:
    """How many leaves one page gives: what was asked for, from 0 to `MAX_PAGE`."""
    return max(0, min(asked, MAX_PAGE))


def keyset(
    older_than: Place | None, newer_than: Place | None
) -> tuple[Literal["ASC", "DESC"], list[tuple[Literal["<", ">"], Place]]]:
    """How a page is cut out of leaves that lie in order of (time, index).

    Returns:
        The order to take them in: with `newer_than` alone, the leaves nearest above the bound come
        first. Then the bounds, which are exclusive.
    """
    bounds: list[tuple[Literal["<", ">"], Place]] = []
    if older_than is not None:
        bounds.append(("<", older_than))
    if newer_than is not None:
        bounds.append((">", newer_than))
    return "ASC" if newer_than is not None and older_than is None else "DESC", bounds


def event_named(event: str) -> tuple[str, int] | None:
    """(emitter, seq) of an event's name, `<emitter>:<seq>`; None: it names none."""
    emitter, _, seq = event.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(seq) <= _MAX_SEQ_DIGITS):
        return None
    return emitter, int(seq)


def leaf_in(index: int, data: bytes | None, stored_hash: bytes | None) -> Leaf:
    """A leaf as its row holds it.

    Raises:
        AuditLogError: Its bytes are not an event.
    """
    try:
        event = json.loads(data or b"")
    except (ValueError, RecursionError) as error:
        raise AuditLogError(f"audit log: leaf {index} is not JSON", index=index) from error
    if not isinstance(event, dict):
        raise AuditLogError(f"audit log: leaf {index} is not an event", index=index)
    return Leaf(index=index, data=bytes(data or b""), hash=bytes(stored_hash or b""), event=event)


def kinds_in(rows: Iterable[Sequence[Any]]) -> list[tuple[str, str]]:
    """(activity, result) of rows (act, result); `intent` where there is no result."""
    return [(str(act), "intent" if result is None else str(result)) for act, result in rows]


def kind_counts_in(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, str], int]:
    """The same of rows (act, result, number of leaves)."""
    found: dict[tuple[str, str], int] = {}
    for act, result, number in rows:
        [kind] = kinds_in([(act, result)])
        found[kind] = found.get(kind, 0) + int(number)
    return found


def log_in(rows: Iterable[Sequence[Any]]) -> tuple[str, int, bytes]:
    """What table log holds, its rows being (origin, size, edge).

    Raises:
        AuditLogError: Not one row, or one with other types.
    """
    found = list(rows)
    if len(found) != 1:
        raise AuditLogError(f"audit log: {len(found)} rows in table log, expected 1")
    origin, size, edge = found[0]
    if not isinstance(size, int) or not isinstance(edge, bytes):
        raise AuditLogError("audit log: table log holds no size and edge")
    return str(origin), size, edge


def edge_in(size: int, edge: bytes, *, prefix: str = "") -> Edge:
    """The edge that table log holds.

    Args:
        size: The stored size.
        edge: The stored bytes.
        prefix: What a message about them begins with.

    Raises:
        AuditLogError: They are not an edge of that size.
    """
    try:
        return Edge.from_bytes(size, edge)
    except FormatError as error:
        raise AuditLogError(f"{prefix}{error}") from error


def aside_row(row: Sequence[Any]) -> AsideRow:
    """A row (h, subject, salt, value) of table aside whose value was not erased."""
    h, subject, salt, value = row
    return AsideRow(
        h=str(h), subject=subject, salt=None if salt is None else bytes(salt), value=str(value)
    )


def aside_faults(rows: Iterable[Sequence[Any]], subjects: Subjects | None) -> list[str]:
    """What is wrong with table aside, in words; nothing: sound.

    Args:
        rows: (h, subject, salt, value) of values that were not erased, by subject.
        subjects: Whose keys open them.
    """
    exchanged = exchanged_rows((aside_row(row) for row in rows), subjects)
    if not exchanged:
        return []
    return [
        f"{len(exchanged)} values in table aside do not give their hashes, the first is "
        f"{exchanged[0][:64]!r}"
    ]


def leaf_rows(batch: Batch) -> Iterator[tuple[int, str, bytes]]:
    """(idx, data, hash) of a batch's leaves."""
    for at, leaf in enumerate(batch.leaves):
        yield batch.old_size + at, leaf.data.decode("utf-8"), leaf.hash


def tile_rows(batch: Batch) -> list[tuple[int, int, bytes]]:
    """(level, n, hashes) of a batch's tiles."""
    return [(level, n, hashes) for (level, n), hashes in batch.tiles.items()]


def emitter_in(row: Sequence[Any]) -> EmitterRow:
    """A row of `EMITTER_COLUMNS`."""
    return EmitterRow(**dict(zip(_EMITTER, row, strict=True)))


def emitter_rows(batch: Batch) -> list[tuple[Any, ...]]:
    """Rows of `EMITTER_COLUMNS`, of a batch's emitters."""
    return [tuple(getattr(emitter, name) for name in _EMITTER) for emitter in batch.emitters]


def aside_rows(
    batch: Batch, subjects: Subjects | None, random_bytes: Callable[[int], bytes]
) -> list[tuple[str, str | None, bytes | None, str]]:
    """(h, subject, salt, value) of a batch's hidden values.

    Args:
        batch: What they came with.
        subjects: Whose keys seal them; None: they lie in the open.
        random_bytes: Draws nonces.
    """
    rows = rows_of(batch.asides, subjects, random_bytes)
    return [(row.h, row.subject, row.salt, row.value) for row in rows]
