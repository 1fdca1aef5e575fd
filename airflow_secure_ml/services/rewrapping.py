"""Change who can open a sealed object: new slots, the core and the payload as they are.

As a reader only, with a key that opens it; `services.rewrapping_below` also rewraps blind. Nobody
loses access by it: who had the file key keeps it; seal again for that.

Source: SEALED_FILE_FORMAT, Rewrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from airflow_secure_ml.core.ports import KeyRef, KeyWrapper, ObjectWriter, PinnedObject
from airflow_secure_ml.core.sealed_file.context import Expected
from airflow_secure_ml.core.sealed_file.header import (
    SUITE_DATASET_KEY,
    Header,
    encode_header,
)
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.services.sealed_header import (
    ReaderKey,
    StateOf,
    check_covers,
    naming,
    read_sealed_header,
    unlock,
)
from airflow_secure_ml.services.sealed_payload import payload_layout, read_whole
from airflow_secure_ml.services.sealing import wrap_slots

COPY_BYTES = 1 << 20


@runtime_checkable
class RangeCopier(Protocol):
    """A writer that copies from a pinned object of its own store without the bytes passing here."""

    def copy_range(self, source: PinnedObject, source_offset: int, offset: int, length: int) -> int:
        """Copy up to `length` bytes; returns how many, 0 if it cannot for this source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """What a rewrap did.

    Attributes:
        core_id: 32 bytes, as before.
        header_bytes: Length of the new header.
        payload_bytes: As before; 0 for a data-set key.
        opened_by: The reader's key that opened it.
        slots: Type and id of the new slots, in the header's order.
        replaces: The version that was read: give it to `writer.commit` as `if_version`.
    """

    core_id: bytes
    header_bytes: int
    payload_bytes: int
    opened_by: KeyRef
    slots: tuple[tuple[int, str], ...]
    replaces: str


def rewrap_object(
    obj: PinnedObject,
    writer: ObjectWriter,
    *,
    readers: Sequence[ReaderKey],
    keys: Sequence[KeyWrapper],
    expect: Expected,
    state_of: StateOf | None = None,
    keep: Callable[[Slot], bool] | None = None,
) -> Rewrapped:
    """Write `obj` with other slots into `writer`.

    The caller publishes with `writer.commit(replace=True, if_version=rewrapped.replaces)`, which
    refuses if somebody replaced the object meanwhile. Data-set keys are rewrapped too.

    Args:
        obj: Pinned; stays open.
        writer: For the same address.
        readers: The reader's list, tried in its order.
        keys: The complete list of who shall be able to open it, but for what `keep` keeps.
        expect: Pairs of the context that must be stored, or `ANY_CONTEXT`.
        state_of: `KeySystem.state_of`, to say why no key opens.
        keep: Whether a slot stays as it is; None: none does.

    Raises:
        FormatError, PolicyError, CiphertextError, ServiceUnavailableError: As `open_object`.
        ConfigurationError: Keys that the format does not allow.
        IntegrityError: The object changed meanwhile.
    """
    header = read_sealed_header(obj)
    suite = header.core.suite
    with (
        naming(obj.uri),
        unlock(header, keys=readers, expect=expect, suite=suite, state_of=state_of) as unlocked,
    ):
        payload_bytes, plaintext_bytes = _lengths(obj, header)
        for key in keys:
            check_covers(key, header.core.context)
        slots = wrap_slots(keys, header.core, unlocked.file_key)
        slots += [slot for slot in header.slots if keep is not None and keep(slot)]
        encoded = encode_header(
            header.core, slots, unlocked.file_key, plaintext_bytes=plaintext_bytes
        )
    writer.write_at(0, encoded)
    copy_payload(obj, header.size_bytes, writer, len(encoded), payload_bytes)
    obj.check_unchanged()
    return Rewrapped(
        core_id=header.core_id,
        header_bytes=len(encoded),
        payload_bytes=payload_bytes,
        opened_by=unlocked.key,
        slots=tuple(sorted((slot.type, slot.id) for slot in slots)),
        replaces=obj.version,
    )


def _lengths(obj: PinnedObject, header: Header) -> tuple[int, int]:
    if header.core.suite == SUITE_DATASET_KEY:
        return 0, 0
    layout = payload_layout(obj, header)
    return layout.payload_bytes, layout.plaintext_bytes


def copy_payload(
    obj: PinnedObject, source_offset: int, writer: ObjectWriter, offset: int, length: int
) -> None:
    """Copy bytes as they are, inside the store where it can."""
    done = 0
    if isinstance(writer, RangeCopier):
        while done < length:
            count = writer.copy_range(obj, source_offset + done, offset + done, length - done)
            if count == 0:
                break
            done += count
    buffer = memoryview(bytearray(min(COPY_BYTES, length)))
    while done < length:
        part = buffer[: min(len(buffer), length - done)]
        read_whole(obj, source_offset + done, part)
        writer.write_at(offset + done, part)
        done += len(part)
