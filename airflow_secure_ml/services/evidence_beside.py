"""What goes into an evidence pack beside its events, as the log and the relay's book have it."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_secure_ml.core.audit.checkpoint import LogKey, parse_checkpoint, parse_note
from airflow_secure_ml.core.audit.cosignature import cosigned_note
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.relaying import RelayBook, Stamped
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.evidence import Beside

# Hourly ones of four days; an older checkpoint than these goes without.
_MAX_STAMPS = 100


def beside_events(
    reader: AuditReader,
    book: RelayBook,
    keys: Sequence[LogKey],
    verifier: bytes,
    *,
    size: int | None = None,
    kept: str | None = None,
) -> Beside:
    """The checkpoint with all that others signed of it.

    Args:
        reader: The log.
        book: What the relay brought back.
        keys: The log's keys.
        verifier: The bytes of verify.py.
        size: The newest checkpoint over at most so many leaves; None: the newest.
        kept: A checkpoint that the pack's reader kept.

    Raises:
        PolicyError: As `newest_note`.
    """
    note, witnesses = newest_note(reader, book, size=size)
    return Beside(
        note=note,
        keys=keys,
        witness_keys="".join(f"{vkey}\n" for vkey in witnesses),
        verifier=verifier,
        kept=kept,
        stamp=_stamp(book, note),
    )


def newest_note(
    reader: AuditReader, book: RelayBook, *, size: int | None = None
) -> tuple[str, tuple[str, ...]]:
    """The newest checkpoint, or the newest over at most so many leaves; and who cosigned it.

    Witnesses' lines are kept apart from the log and come along here.

    Raises:
        PolicyError: None is signed yet (not_checkable).
    """
    note = reader.checkpoint(at_most=size)
    if note is None:
        raise PolicyError(
            "audit log: no checkpoint is signed yet, so nothing can be proved; try again in a "
            "moment",
            why="not_checkable",
        )
    found = book.cosigned(parse_checkpoint(parse_note(note).text).size)
    return cosigned_note(note, [each.line for each in found]), tuple(f.witness for f in found)


def _stamp(book: RelayBook, note: str) -> Stamped | None:
    """The newest time stamp over a checkpoint that this one extends, if there is any."""
    size = parse_checkpoint(parse_note(note).text).size
    return next((each for each in book.stamps(_MAX_STAMPS) if each.size <= size), None)
