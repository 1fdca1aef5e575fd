"""What lies behind a hidden value, sealed under a key of the person or value it names.

The log and each copy of it hold ciphertext alone; destroying the one key erases the value from all
of them. Events, tree and proofs stay as they are.

Source: AUDIT_TRAIL, Event (hidden values); NIST SP 800-38D for AES-256-GCM.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airflow_secure_ml.core.redaction import SALT_BYTES, Aside, gives_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError

KEY_BYTES, NONCE_BYTES = 32, 12
_LABEL = b"asml/v1/aside\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom or what hidden values name; nothing of it follows from the name.

    Attributes:
        id: 32 random hex digits.
        key: 32 random bytes that seal every value of this subject.
    """

    id: str
    key: bytes = field(repr=False)


class _Finds(Protocol):
    def subject(self, subject_id: str) -> Subject | None:
        """A subject by its id; None: erased."""


class Subjects(_Finds, Protocol):
    """Whom hidden values name, and the keys that tell it."""

    def subjects(self, values: Collection[str]) -> Mapping[str, Subject]:
        """The subject of each value, made durable first where there was none."""

    def named(self, value: str) -> Subject | None:
        """The subject that a value names; None: none, or erased."""

    def destroy(self, subject_id: str) -> bool:
        """Destroy a subject's key, and by what it was found; False: there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideRow:
    """A row of table aside.

    Attributes:
        h: 64 hex digits, what the event holds instead of the value.
        subject: Whose key opens it, 32 hex digits; None: it lies in the open.
        salt: In the open: 16 bytes.
        value: The value; sealed, base64 of nonce[12] ‖ AES-256-GCM(salt[16] ‖ value ‖ tag[16]).
    """

    h: str
    subject: str | None = None
    salt: bytes | None = None
    value: str


def rows_of(
    asides: Sequence[Aside], subjects: Subjects | None, random_bytes: Callable[[int], bytes]
) -> list[AsideRow]:
    """What a store keeps of hidden values.

    Args:
        asides: What lies behind them.
        subjects: Whose keys seal them; None: they lie in the open.
        random_bytes: Draws nonces.
    """
    if subjects is None:
        return [
            AsideRow(h=aside.h, salt=bytes.fromhex(aside.salt), value=aside.value)
            for aside in asides
        ]
    found = subjects.subjects({aside.value for aside in asides})
    return [seal_aside(aside, found[aside.value], random_bytes(NONCE_BYTES)) for aside in asides]


def aside_in(row: AsideRow, subjects: _Finds | None) -> Aside | None:
    """What a row keeps; None: erased, or not to be opened here.

    Raises:
        AuditLogError: It does not give the hash: it was exchanged.
    """
    if row.subject is None:
        if row.salt is None or not gives_hash(row.value, row.salt, row.h):
            raise _exchanged(row.h)
        return Aside(h=row.h, salt=row.salt.hex(), value=row.value)
    if row.salt is not None:
        raise _exchanged(row.h)
    subject = None if subjects is None else subjects.subject(row.subject)
    return None if subject is None else open_aside(row, subject)


def exchanged_rows(rows: Iterable[AsideRow], subjects: Subjects | None) -> list[str]:
    """The hashes of rows that keep something else; of those whose key is not here, nothing.

    Args:
        rows: By subject: each key is asked for once.
        subjects: Whose keys open them.
    """
    keys = Newest(_Here(subjects))
    found = []
    for row in rows:
        try:
            aside_in(row, keys)
        except AuditLogError:
            found.append(row.h)
    return found


class Newest:
    """Asks for each subject once, where one's rows follow each other.

    Args:
        subjects: Who is asked; None: every subject is erased.
    """

    def __init__(self, subjects: _Finds | None) -> None:
        self._subjects = subjects
        self._last: tuple[str, Subject | None] | None = None

    def subject(self, subject_id: str) -> Subject | None:
        """A subject by its id; None: erased."""
        if self._last is None or self._last[0] != subject_id:
            found = None if self._subjects is None else self._subjects.subject(subject_id)
            self._last = (subject_id, found)
        return self._last[1]


class _Here:
    """Subjects whose keys may lie elsewhere: it is for whoever has those to tell."""

    def __init__(self, subjects: Subjects | None) -> None:
        self._subjects = subjects

    def subject(self, subject_id: str) -> Subject | None:
        try:
            return None if self._subjects is None else self._subjects.subject(subject_id)
        except ConfigurationError:
            return None


def seal_aside(aside: Aside, subject: Subject, nonce: bytes) -> AsideRow:
    """Seal a hidden value and its salt: with the salt in the open, names could be tried.

    Args:
        aside: What lies behind a hidden value.
        subject: Whom it names.
        nonce: 12 fresh random bytes.
    """
    plain = bytes.fromhex(aside.salt) + aside.value.encode("utf-8")
    data = AESGCM(subject.key).encrypt(nonce, plain, _bound_to(aside.h, subject.id))
    sealed = base64.b64encode(nonce + data).decode("ascii")
    return AsideRow(h=aside.h, subject=subject.id, value=sealed)


def open_aside(row: AsideRow, subject: Subject) -> Aside:
    """The value behind a hidden value, and its salt.

    Raises:
        AuditLogError: The row is not what was sealed for this hash and subject.
    """
    try:
        data = base64.b64decode(row.value, validate=True)
        bound = _bound_to(row.h, subject.id)
        plain = AESGCM(subject.key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)
        salt, value = plain[:SALT_BYTES], plain[SALT_BYTES:].decode("utf-8")
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise _exchanged(row.h) from error
    if not gives_hash(value, salt, row.h):
        raise _exchanged(row.h)
    return Aside(h=row.h, salt=salt.hex(), value=value)


def _bound_to(h: str, subject_id: str) -> bytes:
    return _LABEL + h.encode("utf-8") + b"\0" + subject_id.encode("utf-8")


def _exchanged(h: str) -> AuditLogError:
    return AuditLogError(
        f"audit log: what lies aside does not give its hash {h[:64]}; it was exchanged"
    )
