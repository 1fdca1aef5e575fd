"""Find the hashes that stand in events for a person, and the persons that hashes stand for.

A person has another hash in each emitter. Nothing aside is believed: who can write there could put
somebody's name on another one's events.

Source: AUDIT_TRAIL, Event (hidden values).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from airflow_secure_ml.core.audit.subject import AsideRow, Newest, Subjects, aside_in
from airflow_secure_ml.core.redaction import Aside

# Names that one answer reveals at most.
MAX_NAMES = 500
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

# The hashes that stand for a person, as a question to a log asks for them.
HashesBy = Callable[[str], Sequence[str]]


class AsideRows(Protocol):
    """Table aside of a log; values that were erased are not there."""

    def one(self, h: str) -> AsideRow | None:
        """The row of a hidden value."""

    def many(self, hashes: Sequence[str]) -> Sequence[AsideRow]:
        """The rows of hidden values, by subject."""

    def of_subject(self, subject: str) -> Sequence[AsideRow]:
        """The rows that one subject's key opens."""

    def in_the_open(self, value: str) -> Sequence[AsideRow]:
        """The rows that hold a value in the open."""

    def any_subject(self) -> str | None:
        """The subject of some sealed row; None: there is none."""


def hashes_by(by: str, rows: AsideRows, subjects: Subjects | None) -> list[str]:
    """The hashes that stand for a person.

    Args:
        by: The name; or one of the hashes.
        rows: Where names lie.
        subjects: Whose keys open them; None: they lie in the open.

    Raises:
        AuditLogError: A row does not give its hash: it was exchanged.
        ConfigurationError: The keys are not here.
    """
    if not _HASH.fullmatch(by):
        return _hashes_of(by, rows, subjects)
    row = rows.one(by)
    found = None if row is None else aside_in(row, subjects)
    return [by] if found is None else _hashes_of(found.value, rows, subjects)


def names_by(
    counted: Counter[str | None], rows: AsideRows, subjects: Subjects | None
) -> tuple[Counter[str], bool]:
    """The names behind hashes, with how often each person occurs; erased ones are left out.

    Args:
        counted: How often each hash occurs; None: nobody was named.
        rows: As in `hashes_by`.
        subjects: As in `hashes_by`.

    Returns:
        The names behind the `MAX_NAMES` most frequent hashes, and whether those are all.

    Raises:
        AuditLogError, ConfigurationError: As in `hashes_by`.
    """
    named = Counter({h: n for h, n in counted.items() if h is not None})
    hashes = [h for h, _ in named.most_common(MAX_NAMES)]
    keys = Newest(subjects)
    found: Counter[str] = Counter()
    for row in rows.many(hashes):
        aside = aside_in(row, keys)
        if aside is not None:
            found[aside.value] += named[row.h]
    return found, len(hashes) == len(named)


def _hashes_of(name: str, rows: AsideRows, subjects: Subjects | None) -> list[str]:
    found = list(_opened(rows.in_the_open(name), subjects))
    subject = None if subjects is None else subjects.named(name)
    if subject is not None:
        found += _opened(rows.of_subject(subject.id), subjects)
    elif subjects is not None:
        # Says so where the keys are not here: "nothing was found" would be a lie.
        sealed = rows.any_subject()
        if sealed is not None:
            subjects.subject(sealed)
    return [aside.h for aside in found]


def _opened(rows: Iterable[AsideRow], subjects: Subjects | None) -> Iterable[Aside]:
    keys = Newest(subjects)
    return [aside for aside in (aside_in(row, keys) for row in rows) if aside is not None]
