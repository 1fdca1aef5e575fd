"""Send the log to one receiver, leaf by leaf in order, from where it last confirmed.

At least once: the cursor moves only after a confirmation, so what was sent without one is sent
again. Nothing is skipped: what a receiver does not take holds its job up, and an alert says so.

Source: AUDIT_TRAIL, What it proves; README, Buffered and fast.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.relaying import RelayBook
from airflow_secure_ml.core.audit.siem import Cursor, Receiver, parse_cursor
from airflow_secure_ml.errors import AuditLogError, ServiceUnavailableError
from airflow_secure_ml.services.log_cursor import broken_cursor
from airflow_secure_ml.services.relaying import Rest

PACE_S = 1.0
# A request stays of some hundred KiB: each form holds a leaf's bytes and their translation.
MAX_LEAVES, MAX_LEAF_BYTES = 100, 128 * 1024
# A receiver that asks for a day would have the log wait for a day.
MAX_RETRY_AFTER_S = 300.0


class ForwardJob:
    """Keeps one receiver up with the log. A `services.relaying.Job`.

    Args:
        receiver: Where to.
        reader: The log.
        book: Where the cursor is kept.
        clock_s: A clock that never goes back, seconds.
        acts: Beginnings of the activities that it gets; empty: it gets every event.
    """

    about = "siem"

    def __init__(
        self,
        *,
        receiver: Receiver,
        reader: AuditReader,
        book: RelayBook,
        clock_s: Callable[[], float],
        acts: tuple[str, ...] = (),
    ) -> None:
        self.name, self._acts = receiver.name, acts
        self._receiver, self._reader, self._book = receiver, reader, book
        self._clock_s, self._not_before_s = clock_s, 0.0

    def step(self) -> Rest:
        """Send the next batch, if there is one.

        Raises:
            AuditLogError: The log is not the one that was sent before, or a leaf is not there.
            FormatError: The book's cursor cannot be read.
            ServiceUnavailableError: The receiver did not confirm, or asked to wait.
            ServiceRefusedError: It takes none of them, now or later.
        """
        left_s = self._not_before_s - self._clock_s()
        if left_s > 0:
            raise self._busy(f"it asked to wait {left_s:.0f} s more")
        size = self._reader.size()
        cursor = self._cursor(size)
        leaves = self._batch(cursor.next, size)
        if not leaves:
            return Rest(seconds=PACE_S, is_done=True)
        due = [leaf for leaf in leaves if self._is_meant(leaf)]
        busy = self._receiver.send(due, origin=cursor.origin) if due else None
        if busy is not None:
            wait_s = min(max(busy.retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)
            self._not_before_s = self._clock_s() + wait_s
            raise self._busy(busy.reason)
        after = leaves[-1].index + 1
        moved = Cursor(origin=cursor.origin, next=after, last=leaves[-1].hash)
        self._book.move(self.name, moved.encode())
        return Rest(seconds=0.0 if after < size else PACE_S, is_done=after >= size)

    def _is_meant(self, leaf: Leaf) -> bool:
        # What is no event any more concerns whoever watches for alerts, too.
        act = leaf.event.get("act")
        return not self._acts or not isinstance(act, str) or act.startswith(self._acts)

    def _cursor(self, size: int) -> Cursor:
        text = self._book.cursor(self.name)
        if text is None:
            return Cursor(origin=self._reader.origin())
        cursor = parse_cursor(text)
        problem = broken_cursor(self._reader, cursor, size, done="sent")
        if problem:
            raise self._alarm(problem)
        return cursor

    def _batch(self, start: int, size: int) -> list[Leaf]:
        """The next leaves: one, or as many as stay within both limits."""
        found: list[Leaf] = []
        length = 0
        for index in range(start, min(size, start + MAX_LEAVES)):
            leaf = self._reader.leaf(index)
            if leaf is None:
                raise self._alarm(f"leaf {index} of {size} is not there, and was not sent")
            length += len(leaf.data)
            if found and length > MAX_LEAF_BYTES:
                break
            found.append(leaf)
        return found

    def _busy(self, reason: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(service=self.name, action="take events", reason=reason)

    def _alarm(self, found: str) -> AuditLogError:
        return AuditLogError(
            f"{self.name}: {found}; the log was rolled back, replaced or pruned. Look into the "
            "store; to begin anew, remove this job's row of table cursor in relay.db"
        )
