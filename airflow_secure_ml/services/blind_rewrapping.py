"""Write a sealed object anew with the newest version of one key: blind, or as a reader.

Blind, the key's system wraps the bodies, many in one call, and what it answers is read again as a
reader would before it is written. What only the file key can check, the next reader checks.

Source: SEALED_FILE_FORMAT, Rewrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias

from airflow_secure_ml.core.ports import KeyWrapper, ObjectWriter, PinnedObject, RotatingKeys
from airflow_secure_ml.core.sealed_file.blind import with_bodies
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.header import Header
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import CiphertextError, SecureMLError
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.rewrapping import copy_payload, rewrap_object
from airflow_secure_ml.services.sealed_header import naming


@dataclass(frozen=True, slots=True, kw_only=True)
class OldObject:
    """A sealed object, and what it has of one key.

    Attributes:
        pinned: Held open.
        header: As it was read.
        slots: Its slots of the key, each with its version's number.
    """

    pinned: PinnedObject
    header: Header
    slots: Mapping[Slot, int]

    @property
    def oldest(self) -> int:
        """The oldest version that opens it."""
        return min(self.slots.values())


Change: TypeAlias = Callable[[ObjectWriter], int]
"""Writes an object with new slots; returns the version that opens it then."""


class Rewriter(Protocol):
    """One way to rewrap."""

    def changes(self, batch: Sequence[OldObject]) -> Sequence[Change | SecureMLError | None]:
        """For each object how to write it anew, or why not; None: its version is the newest.

        Raises:
            ServiceError: The key system did nothing, for a reason that is no single object's.
        """


class BlindRewriter:
    """Lets the key's system rewrap; needs no right to open.

    Args:
        keys: The key system.
        name: The key.
        newest: Its newest version; None: not known.
    """

    def __init__(self, keys: RotatingKeys, name: str, newest: int | None) -> None:
        self._keys, self._name, self._newest = keys, name, newest

    def changes(self, batch: Sequence[OldObject]) -> list[Change | SecureMLError | None]:
        """One call for the whole batch."""
        if not batch:
            return []
        # A type's slot of one key is there once: the id is the key's.
        slots = [next(iter(old.slots)) for old in batch]
        asked = [(slot.body, old.header.core_id) for slot, old in zip(slots, batch, strict=True)]
        bodies = self._keys.rewrap(self._name, asked)
        return [
            body if isinstance(body, SecureMLError) else self._change(old, slot, body)
            for old, slot, body in zip(batch, slots, bodies, strict=True)
        ]

    def _change(self, old: OldObject, slot: Slot, body: bytes) -> Change | SecureMLError | None:
        number = self._keys.version_in(self._name, replace(slot, body=body))
        before = old.slots[slot]
        if number == before and self._newest is None:
            return None
        if number is None or number <= before or number < (self._newest or 0):
            return CiphertextError(
                f"{old.pinned.uri}: expected a slot of {self._name} newer than {before}, the key "
                f"system answered with version {number}; nothing was changed"
            )
        return partial(_write_blind, old, slot, body, number)


class ReaderRewriter:
    """Opens with the key as a reader does, and wraps with its newest version."""

    def __init__(self, keys: RotatingKeys, name: str) -> None:
        self._keys, self._name = keys, name

    def changes(self, batch: Sequence[OldObject]) -> list[Change | SecureMLError | None]:
        """The key is looked up once for the whole batch."""
        if not batch:
            return []
        # The slots of one key again: nobody gets to open what a signature was demanded for.
        readers, newest = opening_keys(self._keys, [self._name]), self._keys.wrapper(self._name)
        return [partial(self._write, old, readers, newest) for old in batch]

    def _write(
        self,
        old: OldObject,
        readers: Sequence[KeyWrapper],
        newest: KeyWrapper,
        writer: ObjectWriter,
    ) -> int:
        rewrap_object(
            old.pinned,
            writer,
            readers=readers,
            keys=[newest],
            expect=ANY_CONTEXT,
            state_of=self._keys.state_of,
            keep=lambda slot: slot not in old.slots,
        )
        return int(newest.ref.version)


def _write_blind(old: OldObject, slot: Slot, body: bytes, number: int, writer: ObjectWriter) -> int:
    pinned, header = old.pinned, old.header
    with naming(pinned.uri):
        encoded = with_bodies(header, {slot: body}, object_bytes=pinned.size_bytes)
    writer.write_at(0, encoded)
    payload_bytes = pinned.size_bytes - header.size_bytes
    copy_payload(pinned, header.size_bytes, writer, len(encoded), payload_bytes)
    pinned.check_unchanged()
    return number
