"""Events of a log as lines of a file: JSON Lines or CSV, a piece at a time, whatever the number.

The lines are those of the log as it was when the first was asked for: what comes in later is not
among them, however long it takes, and nothing is held open meanwhile.

Source: PAGES, Alerts, Reports, Export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.audit import event_table
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.errors import AuditLogError

BATCH = 500
# Before every event: their times are whole numbers, those of a changed log perhaps below 0.
_BEFORE_ALL = (-(2**62), -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some lines of a file.

    Attributes:
        events: How many events they hold.
        data: Their bytes; each line is whole.
    """

    events: int
    data: bytes


def event_pieces(store: AuditStore, query: EventQuery, form: str) -> Iterator[Piece]:
    """The lines of a file of events, oldest first.

    Args:
        store: The log.
        query: Which events.
        form: One of `FORMS`.

    Raises:
        AuditLogError: The log was changed so that its events do not come in order, an event has
            more than one line, or events went (pruning) while the file was made.
    """
    size, made = store.size(), FORMS[form]
    if made.head:
        yield Piece(events=0, data=made.head.encode("utf-8"))
    for leaves in _batches(store, query, size):
        yield Piece(events=len(leaves), data=b"".join(map(made.line, leaves)))
    pruned = EventQuery(acts=("trail.prune",), above_index=size - 1)
    if store.count(pruned, at_most=1):
        raise AuditLogError("export: the log was pruned meanwhile, so events may lack; try again")


def _batches(store: AuditStore, query: EventQuery, size: int) -> Iterator[Sequence[Leaf]]:
    place = _BEFORE_ALL
    while True:
        page = store.page(query, newer_than=place, limit=BATCH)
        # Newest first, as pages are shown.
        leaves = [leaf for leaf in reversed(page) if leaf.index < size]
        if leaves:
            yield leaves
        if len(page) < BATCH:
            return
        place = _after(place, page[0])


def _after(place: tuple[int, int], leaf: Leaf) -> tuple[int, int]:
    """Where to go on; a log without an order would be gone through for ever."""
    found = (leaf.event.get("time"), leaf.index)
    if not isinstance(found[0], int) or (found[0], found[1]) <= place:
        raise AuditLogError(
            f"audit log: leaf {leaf.index} has no time to go on from; run audit verify",
            index=leaf.index,
        )
    return (found[0], found[1])


def _json_line(leaf: Leaf) -> bytes:
    # Canonical JSON has no line ends; one in an edited log would make two lines of an event.
    if b"\n" in leaf.data or b"\r" in leaf.data:
        raise AuditLogError(
            f"audit log: leaf {leaf.index} has more than one line; run audit verify",
            index=leaf.index,
        )
    return leaf.data + b"\n"


def _table_line(leaf: Leaf) -> bytes:
    return event_table.row(leaf).encode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file of events is written.

    Attributes:
        head: Its beginning.
        line: Makes an event's line.
    """

    head: str
    line: Callable[[Leaf], bytes]


FORMS: Mapping[str, Form] = {
    "jsonl": Form(head="", line=_json_line),
    "csv": Form(head=event_table.header(), line=_table_line),
}
