"""The slots of a sealed file: who can open it, and how each type of slot looks.

Only the layout: wrapping is `keys`' business, or that of an adapter of a key system. Types that
this release does not know are carried along unread.

Source: SEALED_FILE_FORMAT, Bytes (SLOTS and the table of types).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.sealed_file.cursor import Cursor
from airflow_secure_ml.core.sealed_file.keys import (
    TYPE_AWS_KMS,
    TYPE_DATASET_KEY,
    TYPE_HPKE,
    TYPE_LOCAL_KEK,
    TYPE_PKCS11,
    TYPE_VAULT_TRANSIT,
    WRAPPED_BYTES,
)
from airflow_secure_ml.errors import ConfigurationError, FormatError

MAX_SLOTS = 64
MAX_ID_BYTES = 256
MAX_BODY_BYTES = 8192
MAX_VAULT_BODY_BYTES = 512
IV_BYTES = 12
# Nonce, file key, tag.
PKCS11_BODY_BYTES = IV_BYTES + 32 + 16

_ID = re.compile(rb"[\x21-\x7e]{1,256}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_MOUNT_AND_NAME = re.compile(r"[^/]+(?:/[^/]+)+")
_KMS_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_TOKEN_KEY_AND_VERSION = re.compile(r"[^/]+/[^/]+/[1-9][0-9]{0,8}")
_VAULT_BODY = re.compile(
    rb"vault:v[1-9][0-9]*:(?=.)"
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
)
_HPKE_BODIES = {
    bytes.fromhex("002000010002"): 86,
    bytes.fromhex("647a00010002"): 1174,
}
# A key system re-wraps these bodies without the file key, so the header's HMAC leaves them out.
SELF_PROVING = frozenset({TYPE_VAULT_TRANSIT, TYPE_AWS_KMS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One way to open a sealed file.

    Attributes:
        type: The slot's type number.
        id: What the type calls its key; 1 to 256 bytes of printable ASCII.
        body: The wrapped file key; 1 to 8192 bytes.
    """

    type: int
    id: str
    body: bytes

    @property
    def order(self) -> tuple[int, bytes]:
        """What slots are sorted by; no two slots of a file share it."""
        return (self.type, self.id.encode("ascii"))

    @property
    def encoded(self) -> bytes:
        """The slot's bytes in a header."""
        return self._named + len(self.body).to_bytes(2, "big") + self.body

    @property
    def authenticated(self) -> bytes:
        """The slot's bytes that the header's HMAC covers."""
        return self._named if self.type in SELF_PROVING else self.encoded

    @property
    def _named(self) -> bytes:
        name = self.id.encode("ascii")
        return self.type.to_bytes(2, "big") + len(name).to_bytes(2, "big") + name


def arrange_slots(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """Check and sort the slots that a header is to hold.

    Raises:
        ConfigurationError: None, more than 64, one key twice, or a slot that no reader would take.
    """
    arranged = tuple(sorted(slots, key=lambda slot: slot.order))
    if not 1 <= len(arranged) <= MAX_SLOTS:
        raise ConfigurationError(
            f"slots: {len(arranged)} keys, 1 to {MAX_SLOTS} are allowed; change the list of keys"
        )
    for before, slot in itertools.pairwise(arranged):
        if before.order == slot.order:
            raise ConfigurationError(f"slots: the key {slot.id} (type {slot.type}) is named twice")
    for slot in arranged:
        try:
            check_slot(slot)
        except FormatError as error:
            raise ConfigurationError(f"a slot that no reader would take: {error}") from error
    return arranged


def decode_slots(cursor: Cursor) -> tuple[Slot, ...]:
    """Read the slot count and the slots.

    Raises:
        FormatError: A limit passed, an order not kept, a known type that looks otherwise.
    """
    count = cursor.integer(2, "slot count")
    if not 1 <= count <= MAX_SLOTS:
        raise FormatError(f"header: {count} slots, 1 to {MAX_SLOTS} are allowed")
    slots: list[Slot] = []
    for _ in range(count):
        slot = _decode_slot(cursor)
        if slots and slot.order <= slots[-1].order:
            raise FormatError("header: slots are not strictly ascending by type and id")
        slots.append(slot)
    return tuple(slots)


def find_slot(slots: Sequence[Slot], slot_type: int, slot_id: str) -> Slot | None:
    """The slot of one key, if the file has one."""
    return next((s for s in slots if s.type == slot_type and s.id == slot_id), None)


def check_slot(slot: Slot) -> None:
    """Refuse a slot outside the limits, or one of a known type that looks otherwise."""
    if not 0 <= slot.type <= 0xFFFF:
        raise FormatError(f"slot type {slot.type}: 0 to 65535 are allowed")
    if not _ID.fullmatch(slot.id.encode("utf-8", errors="replace")):
        raise FormatError(f"slot of type {slot.type}: its id is not 1 to 256 bytes of 0x21-0x7E")
    if not 1 <= len(slot.body) <= MAX_BODY_BYTES:
        raise FormatError(
            f"slot {slot.id}: a body of {len(slot.body)} bytes, 1 to {MAX_BODY_BYTES} are allowed"
        )
    fault = _fault(slot)
    if fault is not None:
        raise FormatError(f"slot of type {slot.type}, {slot.id}: {fault}")


def _decode_slot(cursor: Cursor) -> Slot:
    slot_type = cursor.integer(2, "a slot's type")
    slot_id = cursor.counted("a slot's id", least=1, most=MAX_ID_BYTES)
    body = cursor.counted("a slot's body", least=1, most=MAX_BODY_BYTES)
    if not _ID.fullmatch(slot_id):
        raise FormatError("header: a slot's id holds other bytes than 0x21-0x7E")
    slot = Slot(type=slot_type, id=slot_id.decode("ascii"), body=body)
    check_slot(slot)
    return slot


def _fault(slot: Slot) -> str | None:
    if slot.type == TYPE_LOCAL_KEK:
        return _wrapped_fault(slot)
    if slot.type == TYPE_HPKE:
        return _hex_fault(slot) or _hpke_fault(slot)
    if slot.type == TYPE_VAULT_TRANSIT:
        return _vault_fault(slot)
    if slot.type == TYPE_AWS_KMS:
        return None if _KMS_ARN.fullmatch(slot.id) else "its id is not a key's ARN"
    if slot.type == TYPE_DATASET_KEY:
        return _hex_fault(slot) or _wrapped_fault(slot)
    if slot.type == TYPE_PKCS11:
        return _pkcs11_fault(slot)
    return None


def _wrapped_fault(slot: Slot) -> str | None:
    if len(slot.body) == WRAPPED_BYTES:
        return None
    return f"a body of {len(slot.body)} bytes, expected {WRAPPED_BYTES}"


def _hex_fault(slot: Slot) -> str | None:
    return None if _HEX_ID.fullmatch(slot.id) else "its id is not 64 lower-case hex digits"


def _hpke_fault(slot: Slot) -> str | None:
    expected = _HPKE_BODIES.get(slot.body[:6])
    if expected is None:
        return "not one of the two HPKE suites that are allowed"
    if len(slot.body) != expected:
        return f"a body of {len(slot.body)} bytes, expected {expected}"
    return None


def _vault_fault(slot: Slot) -> str | None:
    if not _MOUNT_AND_NAME.fullmatch(slot.id):
        return "its id is not mount/name"
    if len(slot.body) > MAX_VAULT_BODY_BYTES or not _VAULT_BODY.fullmatch(slot.body):
        return f"its body is not vault:v<number>: and base64 of at most {MAX_VAULT_BODY_BYTES}"
    return None


def _pkcs11_fault(slot: Slot) -> str | None:
    if not _TOKEN_KEY_AND_VERSION.fullmatch(slot.id):
        return "its id is not token/key/version"
    if len(slot.body) != PKCS11_BODY_BYTES:
        return f"a body of {len(slot.body)} bytes, expected {PKCS11_BODY_BYTES}"
    return None
