"""Derive every key of a sealed file, and wrap file keys under keys that this process holds.

Keys that live in another system (Vault, KMS) are wrapped there, by their adapters. Secrets are
kept in bytearrays and wiped; a library's own copies are beyond reach.

Source: SEALED_FILE_FORMAT, Bytes (slot types 1 and 5) and Data-set key.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from types import MappingProxyType

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from airflow_secure_ml.core.crypto_policy import UNGOVERNED, CryptoPolicy
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

KEY_BYTES = 32
WRAPPED_BYTES = 40

TYPE_LOCAL_KEK = 1
TYPE_HPKE = 2
TYPE_VAULT_TRANSIT = 3
TYPE_AWS_KMS = 4
TYPE_DATASET_KEY = 5
TYPE_PKCS11 = 6

COMMIT_LABEL = b"asml/v1/commit"
HEADER_LABEL = b"asml/v1/header"
PAYLOAD_LABEL = b"asml/v1/payload"
KEK_LABEL = b"asml/v1/kek"
DSK_LABEL = b"asml/v1/dsk"
PKCS11_LABEL = b"asml/v1/pkcs11"
DATASET_KEY_LABEL = b"asml/v1/dataset-key"


def expand(key: bytes | bytearray, info: bytes) -> bytearray:
    """Derive 32 bytes from a uniform key; the caller wipes them.

    Source: RFC 5869, 2.3 (no Extract: every key is uniform already).
    """
    derived = bytearray(KEY_BYTES)
    HKDFExpand(SHA256(), KEY_BYTES, info).derive_into(key, derived)
    return derived


def wipe(*secrets: bytearray) -> None:
    """Overwrite each secret with zeros, in place."""
    for secret in secrets:
        secret[:] = bytes(len(secret))


def commitment(file_key: bytes | bytearray) -> bytes:
    """What a CORE stores so that only one file key fits it."""
    return bytes(expand(file_key, COMMIT_LABEL))


def commits_to(file_key: bytes | bytearray, stored: bytes) -> bool:
    """Whether `file_key` is 32 bytes and fits the stored commitment, in constant time."""
    return len(file_key) == KEY_BYTES and hmac.compare_digest(commitment(file_key), stored)


def check_file_key(file_key: bytes | bytearray) -> None:
    """Refuse anything but 32 bytes: RFC 3394 would wrap other lengths without a word."""
    if len(file_key) != KEY_BYTES:
        raise ConfigurationError(
            f"a file key has {KEY_BYTES} bytes, this one has {len(file_key)}; it is not wrapped"
        )


def check_unwrapped(file_key: bytearray, slot_id: str) -> None:
    """Wipe and refuse what a key system unwrapped if it is no file key; CiphertextError."""
    found = len(file_key)
    if found != KEY_BYTES:
        wipe(file_key)
        raise CiphertextError(
            f"slot {slot_id}: it holds {found} bytes, expected a file key of {KEY_BYTES}"
        )


class _HeldKeyWrapper:
    """Wraps under a 32-byte key held in memory; the label keeps the two slot types apart."""

    __slots__ = ("_key", "_ref", "_slot_id")

    _label: bytes
    _slot_type: int

    def __init__(self, key: bytes | bytearray, *, slot_id: str, ref: KeyRef) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigurationError(f"{ref}: a key has {KEY_BYTES} bytes, this one {len(key)}")
        self._key = bytearray(key)
        self._slot_id = slot_id
        self._ref = ref

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._slot_id!r}, key=***)"

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError(f"{type(self).__name__} holds a key and cannot be pickled")

    @property
    def slot_type(self) -> int:
        """The slot's type number."""
        return self._slot_type

    @property
    def slot_id(self) -> str:
        """The slot's id."""
        return self._slot_id

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap a 32-byte file key for the file `core_id`; returns 40 bytes."""
        check_file_key(file_key)
        key = expand(self._key, self._label + core_id)
        try:
            return aes_key_wrap(key, file_key)
        finally:
            wipe(key)

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body; the caller wipes the file key.

        Raises:
            CiphertextError: This key did not wrap this body for `core_id`.
        """
        key = expand(self._key, self._label + core_id)
        try:
            if len(body) == WRAPPED_BYTES:
                return bytearray(aes_key_unwrap(key, body))
        except InvalidUnwrap as error:
            raise CiphertextError(
                f"slot {self._slot_id}: not wrapped by this key for this file; "
                "the header was altered or taken from another file"
            ) from error
        finally:
            wipe(key)
        raise CiphertextError(
            f"slot {self._slot_id}: a body of {len(body)} bytes, expected {WRAPPED_BYTES}"
        )

    def ref_of(self, body: bytes) -> KeyRef:
        """The key itself: a slot of another version has another id."""
        return self._ref

    def wipe(self) -> None:
        """Overwrite the key; afterwards the object opens nothing that it wrapped before."""
        wipe(self._key)


class KekWrapper(_HeldKeyWrapper):
    """A local key-encryption key: slot type 1.

    Args:
        key: 32 random bytes with no other use; copied.
        slot_id: The keyring's name of this version, such as `data/3`.
        ref: The key as events name it.
    """

    __slots__ = ()
    _label = KEK_LABEL
    _slot_type = TYPE_LOCAL_KEK


class DataSetKeyWrapper(_HeldKeyWrapper):
    """The key of one data set: slot type 5; made only from the file key of its header.

    Attributes:
        context: The header's pairs; every file sealed or opened with this key must hold them all.
        crypto_policy: The policy of the key that opened the header.
    """

    __slots__ = ("context", "crypto_policy")
    _label = DSK_LABEL
    _slot_type = TYPE_DATASET_KEY

    def __init__(
        self,
        header_file_key: bytes | bytearray,
        *,
        header_core_id: bytes,
        context: Mapping[str, str],
        ref: KeyRef,
        crypto_policy: CryptoPolicy = UNGOVERNED,
    ) -> None:
        check_file_key(header_file_key)
        key = expand(header_file_key, DATASET_KEY_LABEL + header_core_id)
        super().__init__(key, slot_id=header_core_id.hex(), ref=ref)
        wipe(key)
        self.context: Mapping[str, str] = MappingProxyType(dict(context))
        self.crypto_policy = crypto_policy
