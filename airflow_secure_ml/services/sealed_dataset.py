"""The key of a data set: make its header once, and find it again below the data set's root.

Source: SEALED_FILE_FORMAT, Data-set key, and Reading, step 4.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from airflow_secure_ml.core.crypto_policy import governing
from airflow_secure_ml.core.ports import KeyWrapper, ObjectStore
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.header import (
    SUITE_DATASET_KEY,
    encode_header,
    make_core,
)
from airflow_secure_ml.core.sealed_file.keys import KEY_BYTES, DataSetKeyWrapper, wipe
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, PolicyError
from airflow_secure_ml.services.sealed_header import StateOf, naming, read_sealed_header, unlock
from airflow_secure_ml.services.sealing import wrap_slots

KEY_FOLDER = "_asml"
KEY_SUFFIX = ".asmk"
DESTROYED_SUFFIX = ".destroyed"
# Lies there from before a key's copies are removed until its certificate is there.
DESTROYING_SUFFIX = ".destroying"


def dataset_key_name(header_core_id: str) -> str:
    """The header's relative name below the data set's root."""
    return f"{KEY_FOLDER}/{header_core_id}{KEY_SUFFIX}"


def certificate_name(header_core_id: str) -> str:
    """The relative name of what says that a data set's key was destroyed."""
    return f"{KEY_FOLDER}/{header_core_id}{DESTROYED_SUFFIX}"


def destroying_name(header_core_id: str) -> str:
    """The relative name of what says that a data set's key is being destroyed."""
    return f"{KEY_FOLDER}/{header_core_id}{DESTROYING_SUFFIX}"


def create_dataset_key(
    store: ObjectStore,
    root_uri: str,
    *,
    keys: Sequence[KeyWrapper],
    context: Mapping[str, str],
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> DataSetKeyWrapper:
    """Make a data set's key; its header is durable below `root_uri` when this returns.

    Args:
        store: Where the data set lies.
        root_uri: Its canonical address.
        keys: Whoever shall be able to open it; 1 to 64, none of them a data-set key.
        context: At least one pair; every file of the data set must have them all.
        random_bytes: Fresh randomness.

    Raises:
        ConfigurationError: Keys or context that the format does not allow.
        PolicyError: The header's name is taken (address_taken).
    """
    if any(isinstance(key, DataSetKeyWrapper) for key in keys):
        raise ConfigurationError("data-set key: a data-set key cannot open another")
    file_key = bytearray(random_bytes(KEY_BYTES))
    try:
        core = make_core(SUITE_DATASET_KEY, file_key, context)
        slots = wrap_slots(keys, core, file_key)
        header = encode_header(core, slots, file_key, plaintext_bytes=None)
        wrapped_by = keys[0].ref_of(slots[0].body)
        made = DataSetKeyWrapper(
            file_key,
            header_core_id=core.id,
            context=context,
            ref=wrapped_by,
            crypto_policy=governing(keys),
        )
    finally:
        wipe(file_key)
    with store.create(store.child(root_uri, dataset_key_name(core.id.hex()))) as writer:
        writer.write_at(0, header)
        writer.commit(replace=False)
    return made


class DataSetRoot:
    """An entry of a reader's list: the keys below one data set's root (slot type 5).

    Args:
        store: Where the data set lies.
        root_uri: Its canonical address; never taken from a file.
        keys: The reader's list for the headers; tried in its order.
        state_of: `KeySystem.state_of`, to say why no key opens.
    """

    def __init__(
        self,
        store: ObjectStore,
        root_uri: str,
        *,
        keys: Sequence[KeyWrapper],
        state_of: StateOf | None = None,
    ) -> None:
        self._store = store
        self._root_uri = root_uri
        self._keys = keys
        self._state_of = state_of
        self._known: dict[str, DataSetKeyWrapper] = {}
        self.crypto_policy = governing(keys)

    def dataset_key(self, header_core_id: str) -> DataSetKeyWrapper | None:
        """The key whose header has this core_id (64 hex digits); None: not in this data set.

        Raises:
            PolicyError: It was destroyed (key_destroyed).
            SecureMLError: The header is there and does not open.
        """
        known = self._known.get(header_core_id)
        if known is not None:
            return known
        uri = self._store.child(self._root_uri, dataset_key_name(header_core_id))
        try:
            pinned = self._store.open(uri)
        except FileNotFoundError:
            self._refuse_if_destroyed(header_core_id)
            return None
        with pinned:
            header = read_sealed_header(pinned)
        if header.core_id.hex() != header_core_id:
            raise CiphertextError(f"{uri}: it is another data-set key than its name says")
        with (
            naming(uri),
            unlock(
                header,
                keys=self._keys,
                expect=ANY_CONTEXT,
                suite=SUITE_DATASET_KEY,
                state_of=self._state_of,
            ) as unlocked,
        ):
            found = DataSetKeyWrapper(
                unlocked.file_key,
                header_core_id=header.core_id,
                context=header.core.context,
                ref=unlocked.key,
                crypto_policy=self.crypto_policy,
            )
        self._known[header_core_id] = found
        return found

    def _refuse_if_destroyed(self, header_core_id: str) -> None:
        """Raise PolicyError (key_destroyed) if a certificate says so; only the words rest on it."""
        for name in (certificate_name(header_core_id), destroying_name(header_core_id)):
            told = self._store.child(self._root_uri, name)
            if self._store.info(told) is not None:
                raise PolicyError(
                    f"{self._root_uri}: its data-set key {header_core_id} was destroyed, so "
                    f"nothing opens this data set any more; who did it, when and why stands in "
                    f"the trail and in {told}",
                    why="key_destroyed",
                )

    def wipe(self) -> None:
        """Overwrite the keys that were found; afterwards they are looked up again."""
        for key in self._known.values():
            key.wipe()
        self._known.clear()
