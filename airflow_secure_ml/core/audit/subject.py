"""What lies behind a hidden value, sealed under a key of the person or value it names.

The log and each copy of it hold ciphertext alone; destroying the one key erases the value from all
of them. Events, tree and proofs stay as they are.

Source: AUDIT_TRAIL, Event (hidden values); NIST SP 800-38D for AES-256-GCM.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airflow_secure_ml.core.redaction import SALT_BYTES, Aside, gives_hash
from airflow_secure_ml.errors import AuditLogError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAside:
    """A row of table aside.

    Attributes:
        h: 64 hex digits, what the event holds instead of the value.
        subject: Whose key opens it, 32 hex digits.
        sealed: Base64 of nonce[12] ‖ AES-256-GCM(salt[16] ‖ value ‖ tag[16]).
    """

    h: str
    subject: str
    sealed: str


def seal_aside(aside: Aside, subject: Subject, nonce: bytes) -> SealedAside:
    """Seal a hidden value and its salt: with the salt in the open, names could be tried.

    Args:
        aside: What lies behind a hidden value.
        subject: Whom it names.
        nonce: 12 fresh random bytes.
    """
    plain = bytes.fromhex(aside.salt) + aside.value.encode("utf-8")
    data = AESGCM(subject.key).encrypt(nonce, plain, _bound_to(aside.h, subject.id))
    sealed = base64.b64encode(nonce + data).decode("ascii")
    return SealedAside(h=aside.h, subject=subject.id, sealed=sealed)


def open_aside(row: SealedAside, subject: Subject) -> str:
    """The value behind a hidden value.

    Raises:
        AuditLogError: The row is not what was sealed for this hash and subject.
    """
    try:
        data = base64.b64decode(row.sealed, validate=True)
        bound = _bound_to(row.h, subject.id)
        plain = AESGCM(subject.key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)
        salt, value = plain[:SALT_BYTES], plain[SALT_BYTES:].decode("utf-8")
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise _exchanged(row.h) from error
    if not gives_hash(value, salt, row.h):
        raise _exchanged(row.h)
    return value


def _bound_to(h: str, subject_id: str) -> bytes:
    return _LABEL + h.encode("utf-8") + b"\0" + subject_id.encode("utf-8")


def _exchanged(h: str) -> AuditLogError:
    return AuditLogError(
        f"audit log: what lies behind hidden value {h[:64]!r} is not what was sealed for it"
    )
