"""Whether a log is still the one that was read before, up to where it was read, and goes on there.

Source: AUDIT_TRAIL, What it proves; Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.pruning import pruned_to
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.siem import Cursor
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH


def broken_cursor(reader: AuditReader, cursor: Cursor, size: int, *, done: str = "read") -> str:
    """What is wrong between a cursor and its log; empty: nothing is.

    Args:
        reader: The log.
        cursor: How far it was read.
        size: Its number of leaves now.
        done: What was done with its leaves.
    """
    origin = reader.origin()
    if cursor.origin != origin:
        return f"{cursor.origin} was {done} up to leaf {cursor.next}, not {origin}"
    if cursor.next > size:
        return f"{cursor.next} leaves were {done}, the log has {size}"
    if cursor.last is None:
        return ""
    if list(reader.leaf_hashes(cursor.next - 1, cursor.next)) != [cursor.last]:
        return f"leaf {cursor.next - 1} is not the one that was {done}"
    return ""


def first_kept(reader: AuditReader) -> int:
    """The first leaf whose bytes are there; the log's size where none are."""
    with reader.whole() as log:
        return next((index for index, _, _ in log.leaves()), log.edge().size)


def said_pruning(reader: AuditReader, first: int) -> int | None:
    """The leaf of a trail.prune by which a log may begin at a leaf; None: it was cut.

    Only the sequencer can say one, and each goes further than those before it. Whether it is
    signed is `services.verifying`'s to tell.

    Args:
        reader: The log.
        first: Its first leaf whose bytes are there.
    """
    if first % TILE_WIDTH:
        return None
    for leaf in reader.page(EventQuery(acts=("trail.prune",))):
        # Columns of a log that was changed may differ from its events.
        if leaf.event.get("act") == "trail.prune" and pruned_to(leaf.event) >= first:
            return leaf.index
    return None
