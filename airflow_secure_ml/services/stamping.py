"""Have an authority stamp the time on checkpoints, and tell what its stamps prove.

A stamp says that a note was there by a time. It does not keep the note: whoever holds store and
log key can drop both, so it adds a time to a checkpoint and no witness.

Source: RFC 3161; AUDIT_TRAIL, What it proves, against whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.audit.checkpoint import LogKey, open_checkpoint
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.relaying import RelayBook, Stamped, Stamper
from airflow_secure_ml.services.relaying import Rest

EVERY_MS = 3_600_000
PACE_S = 30.0


class StampJob:
    """Has the first checkpoint stamped and one each hour. A `services.relaying.Job`.

    Args:
        stamper: Who stamps.
        reader: The log.
        log_keys: Gives the keys that checkpoints are believed by.
        book: Where stamps are kept.
        now_ms: Wall clock, ms since 1970 UTC.
    """

    about = "time stamp"

    def __init__(
        self,
        *,
        stamper: Stamper,
        reader: AuditReader,
        log_keys: Callable[[], Sequence[LogKey]],
        book: RelayBook,
        now_ms: Callable[[], int],
    ) -> None:
        self.name = f"time stamp {stamper.url}"
        self._stamper, self._reader, self._log_keys = stamper, reader, log_keys
        self._book, self._now_ms = book, now_ms

    def step(self) -> Rest:
        """Have the newest checkpoint stamped, if one is due.

        Raises:
            ServiceUnavailableError: The authority did not answer.
            SecureMLError: Its stamp does not hold, or the log's newest checkpoint does not.
        """
        note = self._reader.checkpoint()
        if note is None:
            return Rest(seconds=PACE_S, is_done=True)
        ours = open_checkpoint(note, self._log_keys(), origin=self._reader.origin())
        if ours.size and self._is_due(ours.size):
            response, time_ms = self._stamper.stamp(note.encode())
            self._book.keep_stamped(
                Stamped(size=ours.size, note=note, response=response, time_ms=time_ms)
            )
        return Rest(seconds=PACE_S, is_done=True)

    def _is_due(self, size: int) -> bool:
        last = next(iter(self._book.stamps(1)), None)
        if last is None:
            return True
        return last.size < size and self._now_ms() - last.time_ms >= EVERY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class StampedSize:
    """What a stamp proves.

    Attributes:
        size: So many leaves were there,
        time_ms: at this time by the authority's clock, ms since 1970 UTC.
    """

    size: int
    time_ms: int


def newest_stamp(
    book: RelayBook, stamper: Stamper, log_keys: Sequence[LogKey], origin: str
) -> StampedSize | None:
    """The newest stamp, verified again; None: there is none.

    Raises:
        SecureMLError: It does not hold, or is not over a checkpoint of this log.
    """
    kept = next(iter(book.stamps(1)), None)
    if kept is None:
        return None
    found = open_checkpoint(kept.note, log_keys, origin=origin)
    return StampedSize(size=found.size, time_ms=stamper.check(kept.response, kept.note.encode()))
