"""Unwrap the keys of an encrypted Parquet file with the reader's own list, and no other key.

Nothing in a file chooses a key system or an address: what it names is looked up in the list, and
each key is asked once for all files of an artifact.

Source: docs/parquet.md, Reading; SEALED_FILE_FORMAT, Reading, step 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.parquet.key_material import (
    KEY_BYTES,
    KeyMaterial,
    kek_core_id,
    unwrap_dek,
)
from airflow_secure_ml.core.parquet.modules import ModuleCipher
from airflow_secure_ml.core.ports import KeyRef, KeyWrapper
from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.errors import (
    CiphertextError,
    PolicyError,
    SecureMLError,
    ServiceRefusedError,
)
from airflow_secure_ml.services.sealed_header import StateOf

Forbids = Callable[[KeyMaterial], PolicyError | None]
"""From what a file says of a key to why this reader may not use it; None: it may."""


def _no_nonce(count: int) -> bytes:
    raise AssertionError("a reader seals nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedKek:
    """A key-encryption key of one column of one output.

    Attributes:
        key: 32 bytes; wiped with the list it came from.
        ref: The version that wrapped it.
    """

    key: bytearray
    ref: KeyRef

    def __repr__(self) -> str:
        return f"OpenedKek({self.ref}, key=***)"


class ReaderKeys:
    """The keys with which one artifact is read; a context manager that wipes them.

    Args:
        uri: The canonical address for which it was made.
        keys: The reader's list.
        forbids: What rules say of a key.
        state_of: Asked only when no listed key is the one, to say why.
    """

    def __init__(
        self,
        uri: str,
        keys: Sequence[KeyWrapper],
        *,
        forbids: Forbids = lambda material: None,
        state_of: StateOf | None = None,
    ) -> None:
        self._uri, self._forbids, self._state_of = uri, forbids, state_of
        self._keys = {(key.slot_type, key.slot_id): key for key in keys}
        self._opened: dict[tuple[str, bytes, str], OpenedKek | SecureMLError] = {}

    def __enter__(self) -> ReaderKeys:
        return self

    def __exit__(self, *error: object) -> None:
        wipe(*(one.key for one in self._opened.values() if isinstance(one, OpenedKek)))
        self._opened.clear()

    def kek(self, material: KeyMaterial) -> OpenedKek:
        """The key-encryption key that a file names.

        Raises:
            PolicyError, ServiceRefusedError: This reader may not, or cannot, use it.
            CiphertextError: It was wrapped for another object, key or column.
            ServiceUnavailableError: The key system does not answer.
        """
        name = (material.key_name, material.kek_id, material.kek.as_text())
        if name not in self._opened:
            self._opened[name] = self._ask(material)
        found = self._opened[name]
        if isinstance(found, SecureMLError):
            raise found
        return found

    def cipher(self, material: KeyMaterial) -> ModuleCipher:
        """What opens the modules of a column, or the footer; errors as in `kek`."""
        dek = unwrap_dek(self.kek(material).key, material)
        try:
            return ModuleCipher(dek, _no_nonce)
        finally:
            wipe(dek)

    def _ask(self, material: KeyMaterial) -> OpenedKek | SecureMLError:
        forbidden = self._forbids(material)
        if forbidden is not None:
            return forbidden
        kek = material.kek
        wrapper = self._keys.get((kek.slot_type, kek.slot_id))
        if wrapper is None:
            return self._missing(material)
        core_id = kek_core_id(self._uri, material.key_name, kek.column, material.kek_id)
        try:
            key = wrapper.unwrap(kek.body, core_id)
        except SecureMLError as error:
            return error
        if len(key) != KEY_BYTES:
            wipe(key)
            return CiphertextError(f"key {kek.slot_id}: it holds no key of {KEY_BYTES} bytes")
        return OpenedKek(key=key, ref=wrapper.ref_of(kek.body))

    def _missing(self, material: KeyMaterial) -> PolicyError:
        kek = material.kek
        state = None if self._state_of is None else self._state_of(kek.slot_type, kek.slot_id)
        why = {
            "active": "key_not_allowed",
            "retired": "key_not_allowed",
            "disabled": "key_disabled",
            "destroyed": "key_destroyed",
        }.get(state or "", "key_missing")
        what = f"column {kek.column!r}" if kek.column else "the file"
        return PolicyError(
            f"{what}: needs key {material.key_name} ({kek.slot_id}), which this reader does not "
            "have; ask for the key, or read the other columns",
            why=why,
        )


def is_no(error: SecureMLError) -> bool:
    """Whether an error says that this reader may not have a key, and nothing worse.

    Silence of a key system and altered bytes are no such answer.
    """
    return isinstance(error, (PolicyError, ServiceRefusedError))
