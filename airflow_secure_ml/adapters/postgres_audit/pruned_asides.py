"""Remove what lies behind hidden values of pruned leaves, where no leaf that stays names it.

A value is found by any field called `h`: what is no hidden value keeps a row, and removes none.

Source: AUDIT_TRAIL, Event (hidden values) and Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

_LAST_USES = """
SELECT max(idx), used.h #>> '{}' FROM asml_trail.leaf,
LATERAL jsonb_path_query(data::jsonb, '$.**.h') AS used(h)
WHERE data LIKE '%%"h":%%' GROUP BY 2 HAVING max(idx) < %s ORDER BY 1
"""
_AT_ONCE = 1000


class UnusedAsides:
    """The values that only leaves which go name, by the last of those.

    Args:
        rows: (index of a leaf, hash) by index.
        connection: Where they are removed.
    """

    def __init__(self, rows: Iterator[tuple[int, str]], connection: Connection[Any]) -> None:
        self._rows, self._connection = rows, connection
        self._next = next(rows, None)

    def remove(self, below: int) -> None:
        """Remove those that only leaves below an index name; in the transaction that removes those.

        Args:
            below: Not less than in the call before.
        """
        due: list[str] = []
        while self._next is not None and self._next[0] < below:
            due.append(self._next[1])
            self._next = next(self._rows, None)
            if len(due) == _AT_ONCE or self._next is None or self._next[0] >= below:
                self._connection.execute("DELETE FROM asml_trail.aside WHERE h = ANY(%s)", [due])
                due = []


@contextmanager
def unused_asides(connection: Connection[Any], below: int) -> Iterator[UnusedAsides]:
    """Look up, before anything goes, which leaf is the last to name each value.

    Args:
        connection: The writer's.
        below: The first leaf that is to keep its bytes.
    """
    # The server keeps the answer beyond each transaction: hashes alone, and however many.
    with connection.cursor("last_uses", withhold=True) as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(_LAST_USES, [below])
        yield UnusedAsides(iter(cursor), connection)
