"""Erase a person from the trail: destroy the key that opens what hidden values of them hide.

Events, tree and proofs stay. Copies of the log name them no more either; what was given out in the
open, such as an evidence pack with values, is not reached.

Source: AUDIT_TRAIL, Event (hidden values).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.frame import ASIDE, HEADER_BYTES, read_frames
from airflow_secure_ml.core.audit.subject import Subjects
from airflow_secure_ml.errors import FormatError


class AsideEraser(Protocol):
    """What removes rows of table aside for good."""

    def erase_asides(self, subject: str | None, value: str) -> int:
        """Remove a subject's rows, and those that hold the value in the open; how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was done.

    Attributes:
        is_known: Whether the log or a waiting segment knew the value at all.
        rows: Rows that are gone from the log's own table.
        waiting: Segments of the spool in which the value still lies in the open: their processes
            run, or were not taken in yet.
    """

    is_known: bool
    rows: int
    waiting: int


def erase_subject(
    value: str, subjects: Subjects, log: AsideEraser, segments: Callable[[], Iterable[bytes]]
) -> Erased:
    """Make a value unreadable behind every hidden value; may be run again.

    Args:
        value: Whom or what hidden values name, as it was recorded.
        subjects: Where the keys are.
        log: The log's table.
        segments: The bytes of each segment that waits in the spool.

    Raises:
        ServiceUnavailableError: The keys or the log cannot be changed now.
    """
    # First: what is taken in while this goes on lay in the spool before.
    waiting = sum(_holds(data, value) for data in segments())
    subject = subjects.named(value)
    # The key last: found by its name, it is what tells a second try which rows are meant.
    rows = log.erase_asides(None if subject is None else subject.id, value)
    if subject is not None:
        subjects.destroy(subject.id)
    is_known = subject is not None or rows > 0 or waiting > 0
    return Erased(is_known=is_known, rows=rows, waiting=waiting)


def _holds(segment: bytes, value: str) -> bool:
    """Whether a segment holds the value in the open."""
    frames = read_frames(segment, HEADER_BYTES).frames
    return any(frame.kind == ASIDE and _value(frame.payload) == value for frame in frames)


def _value(payload: bytes) -> object:
    try:
        record = canonical.decode(payload)
    except FormatError:
        return None
    return record.get("value") if isinstance(record, dict) else None
