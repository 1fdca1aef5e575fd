"""Remove what lies behind hidden values of pruned leaves, where no leaf that stays names it.

A value is found by any field called `h`: what is no hidden value keeps a row, and removes none.

Source: AUDIT_TRAIL, Event (hidden values) and Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

import sqlite3


def find_last_uses(connection: sqlite3.Connection, below: int) -> None:
    """Look up, before anything goes, which leaf is the last to name each value.

    Kept in a table of this connection's own: hashes alone, and however many there are.

    Args:
        connection: The writer's.
        below: The first leaf that is to keep its bytes.
    """
    connection.execute("DROP TABLE IF EXISTS temp.last_use")
    connection.execute("CREATE TEMP TABLE last_use(idx INTEGER, h TEXT)")
    connection.execute(
        "INSERT INTO temp.last_use SELECT max(leaf.idx), node.atom "
        "FROM leaf, json_tree(leaf.data) AS node "
        "WHERE instr(leaf.data, '\"h\":') AND node.key = 'h' "
        "GROUP BY node.atom HAVING max(leaf.idx) < ?",
        (below,),
    )
    connection.execute("CREATE INDEX temp.last_use_idx ON last_use(idx)")


def remove_unused(connection: sqlite3.Connection, below: int) -> None:
    """Remove the values that only leaves below an index name; in the transaction that prunes.

    Args:
        connection: As in `find_last_uses`, which was called before.
        below: At most what it was called with.
    """
    connection.execute(
        "DELETE FROM aside WHERE h IN (SELECT h FROM temp.last_use WHERE idx < ?)", (below,)
    )
    connection.execute("DELETE FROM temp.last_use WHERE idx < ?", (below,))
