"""Seal small values in memory, under a data-set key for each owner that is made on first use.

The keys lie wrapped in one folder for each owner; `_asml/current` there names the one that seals.
Where values are stored is the caller's business.

Source: SEALED_FILE_FORMAT, Data-set key.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from airflow_secure_ml.core.crypto_policy import governing
from airflow_secure_ml.core.ports import KeyRef, KeySystem, ObjectStore
from airflow_secure_ml.core.sealed_file.context import Expected
from airflow_secure_ml.core.sealed_file.keys import DataSetKeyWrapper
from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError
from airflow_secure_ml.services.sealed_dataset import (
    KEY_FOLDER,
    DataSetRoot,
    create_dataset_key,
    dataset_key_name,
)
from airflow_secure_ml.services.sealing import open_object, seal_object

CURRENT = f"{KEY_FOLDER}/current"
_CORE_ID = re.compile(rb"[0-9a-f]{64}")
_CORE_ID_BYTES = 64


class OwnerKeys:
    """The data-set keys of owners, each found once in a process.

    Args:
        store: Where their folders lie.
        root_uri: The folders' own folder, canonical; shared by everyone who seals and opens.
        keys: Wraps them.
        wrap_key: Name of the key that wraps new ones.
        open_keys: Names of the keys that may open them.
    """

    def __init__(
        self,
        store: ObjectStore,
        root_uri: str,
        *,
        keys: KeySystem,
        wrap_key: str,
        open_keys: Collection[str],
    ) -> None:
        self._store, self._root_uri = store, root_uri
        self.crypto_policy = governing([keys])
        self._keys, self._wrap_key, self._open_keys = keys, wrap_key, tuple(open_keys)
        # Without a lock: two threads that look for one key find the same.
        self._sealing: dict[str, DataSetKeyWrapper] = {}
        self._known: dict[tuple[str, str], DataSetKeyWrapper] = {}

    def sealing_key(self, folder: str, context: Mapping[str, str]) -> DataSetKeyWrapper:
        """The key that seals an owner's values; made, and durable, if it is the first.

        Args:
            folder: The owner's folder.
            context: The key's own pairs; every value sealed with it must have them.

        Raises:
            ConfigurationError: Its header is gone.
            PolicyError: It was made for another owner (context_differs), or the wrap key may not
                be used.
        """
        found = self._sealing.get(folder)
        if found is None:
            found = self._found(folder, context)
            self._sealing[folder] = found
        return found

    def of(self, folder: str) -> OwnerReader:
        """An entry of a reader's list: whatever key of the owner a value names."""
        return OwnerReader(self, folder)

    def find(self, folder: str, header_core_id: str) -> DataSetKeyWrapper | None:
        """One key of an owner; None: there is no header of that name."""
        known = self._known.get((folder, header_core_id))
        if known is None:
            # The list is asked for anew: the key above may have been rotated meanwhile.
            above = DataSetRoot(
                self._store,
                self._uri(folder),
                keys=self._keys.unwrappers(self._open_keys),
                state_of=self._keys.state_of,
            )
            known = above.dataset_key(header_core_id)
            if known is not None:
                self._known[folder, header_core_id] = known
        return known

    def _found(self, folder: str, context: Mapping[str, str]) -> DataSetKeyWrapper:
        core_id = self._current(folder)
        if core_id is None:
            core_id = self._make(folder, context)
        key = self.find(folder, core_id)
        if key is None:
            raise ConfigurationError(
                f"{self._uri(folder)}: {CURRENT} names a key whose header is gone; restore it "
                f"from a backup, or remove {CURRENT} to begin a new key"
            )
        if dict(key.context) != dict(context):
            raise PolicyError(
                f"{self._uri(folder)}: {CURRENT} names a key that was made for somebody else; "
                "restore the folder from a backup",
                why="context_differs",
            )
        return key

    def _make(self, folder: str, context: Mapping[str, str]) -> str:
        made = create_dataset_key(
            self._store,
            self._uri(folder),
            keys=[self._keys.wrapper(self._wrap_key)],
            context=context,
        )
        name = made.slot_id
        made.wipe()
        try:
            with self._store.create(self._child(folder, CURRENT)) as writer:
                writer.write_at(0, name.encode("ascii"))
                writer.commit(replace=False)
        except PolicyError as error:
            if error.why != "address_taken":
                raise
            # Another process was first: nothing was sealed with ours yet.
            self._store.delete(self._child(folder, dataset_key_name(name)))
        return self._current(folder) or name

    def _current(self, folder: str) -> str | None:
        uri = self._child(folder, CURRENT)
        try:
            with self._store.open(uri) as pinned:
                data = pinned.read_at(0, _CORE_ID_BYTES + 1)
        except FileNotFoundError:
            return None
        if not _CORE_ID.fullmatch(data):
            raise FormatError(f"{uri}: expected {_CORE_ID_BYTES} hex digits, a key's name")
        return data.decode("ascii")

    def _uri(self, folder: str) -> str:
        return self._store.child(self._root_uri, folder)

    def _child(self, folder: str, name: str) -> str:
        return self._store.child(self._root_uri, f"{folder}/{name}")


class OwnerReader:
    """The keys of one owner, as `services.sealed_header` asks for them."""

    def __init__(self, keys: OwnerKeys, folder: str) -> None:
        self._keys, self._folder = keys, folder
        self.crypto_policy = keys.crypto_policy

    def dataset_key(self, header_core_id: str) -> DataSetKeyWrapper | None:
        """The key whose header has this core_id; None: not this owner's."""
        return self._keys.find(self._folder, header_core_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedValue:
    """A value that was opened.

    Attributes:
        plaintext: What it held.
        context: All pairs that are stored, authenticated.
        key: The key above the owner's.
    """

    plaintext: bytes
    context: Mapping[str, str]
    key: KeyRef

    def __repr__(self) -> str:
        return f"OpenedValue(key={self.key}, plaintext=***)"


def seal_value(plaintext: bytes, *, key: DataSetKeyWrapper, context: Mapping[str, str]) -> bytes:
    """Seal bytes under an owner's key; errors as in `seal_object`."""
    sealed = _InMemory()
    seal_object(
        io.BytesIO(plaintext),
        sealed,
        keys=[key],
        context=context,
        plaintext_bytes=len(plaintext),
        threads=1,
        digest_algorithm=None,
    )
    return bytes(sealed.data)


def open_value(sealed: bytes, *, name: str, keys: OwnerReader, expect: Expected) -> OpenedValue:
    """Open a value.

    Args:
        sealed: A whole sealed file.
        name: What it is, for messages.
        keys: Its owner's keys.
        expect: Pairs of the context that must be stored.

    Raises:
        FormatError: Not a sealed file.
        PolicyError: It belongs elsewhere (context_differs), or no key opens it.
        CiphertextError: It was altered.
    """
    plain = io.BytesIO()
    opened = open_object(
        _InMemory(sealed, uri=name),
        plain,
        keys=[keys],
        expect=expect,
        threads=1,
        digest_algorithm=None,
        state_of=_lost,
    )
    return OpenedValue(plaintext=plain.getvalue(), context=opened.context, key=opened.key)


def _lost(slot_type: int, slot_id: str) -> None:
    """No folder holds the key that a slot names: it is missing, not forbidden."""


class _InMemory:
    """Bytes as an object that is read or written; nobody else has them."""

    def __init__(self, data: bytes = b"", *, uri: str = "") -> None:
        self.data, self.uri, self.version = bytearray(data), uri, ""

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def readinto_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        part = memoryview(self.data)[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def check_unchanged(self) -> None:
        return

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.data[offset : offset + len(data)] = data

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        return self.version

    def abort(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return
