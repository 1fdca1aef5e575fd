"""Seal and open one module of an encrypted Parquet file: a page, its header, a footer.

AES-GCM only. AES_GCM_CTR_V1 leaves pages without a tag, and the field that names the algorithm is
not authenticated: nothing here knows it.

Source: parquet-format, Encryption.md, 4.4 (AAD) and 5.1 (module: length, nonce, ciphertext, tag).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airflow_secure_ml.errors import CiphertextError, FormatError

LENGTH_BYTES, NONCE_BYTES, TAG_BYTES = 4, 12, 16
OVERHEAD_BYTES = LENGTH_BYTES + NONCE_BYTES + TAG_BYTES
# The AAD counts row groups, columns and pages in signed 16 bits.
MAX_ORDINAL = 0x7FFF
# Random nonces of 96 bits meet too likely behind so many (SP 800-38D, 8.3; Encryption.md, 5.1.1).
MAX_MODULES = 1 << 32
# Lengths are signed 32 bits to every reader.
MAX_I32 = 0x7FFFFFFF

RandomBytes = Callable[[int], bytes]


class Kind(enum.IntEnum):
    """What a module holds; part of what authenticates it."""

    FOOTER = 0
    COLUMN_METADATA = 1
    DATA_PAGE = 2
    DICTIONARY_PAGE = 3
    DATA_PAGE_HEADER = 4
    DICTIONARY_PAGE_HEADER = 5


def module_aad(file_id: bytes, kind: Kind, *ordinals: int) -> bytes:
    """What authenticates a module's place: file, kind, row group, column, page.

    Args:
        file_id: `aad_file_unique` of the file.
        kind: What it holds.
        *ordinals: Row group and column; for data pages and their headers the page too.

    Raises:
        FormatError: An ordinal over 32767, which the format cannot say.
    """
    if any(not 0 <= ordinal <= MAX_ORDINAL for ordinal in ordinals):
        raise FormatError(
            f"Parquet: more than {MAX_ORDINAL + 1} row groups, columns or pages of a column chunk, "
            "which cannot be encrypted; write larger row groups or pages"
        )
    return file_id + bytes([kind]) + struct.pack(f"<{len(ordinals)}h", *ordinals)


class ModuleCipher:
    """Seals and opens modules under one key.

    Args:
        key: 32 bytes that encrypt this file or column only.
        random_bytes: Whence nonces come.
    """

    def __init__(self, key: bytes | bytearray, random_bytes: RandomBytes) -> None:
        self._aead = AESGCM(key)
        self._random_bytes = random_bytes
        self._sealed = 0

    def __repr__(self) -> str:
        return "ModuleCipher(***)"

    def seal(self, plain: bytes | bytearray | memoryview, aad: bytes) -> bytearray:
        """A module, its length included; errors as in `seal_into`."""
        sealed = bytearray(len(plain) + OVERHEAD_BYTES)
        self.seal_into(memoryview(sealed), plain, aad)
        return sealed

    def seal_into(
        self, module: memoryview, plain: bytes | bytearray | memoryview, aad: bytes
    ) -> None:
        """Write a module, its length included.

        Args:
            module: Where to; `OVERHEAD_BYTES` longer than `plain`.
            plain: What it holds.
            aad: What authenticates its place.

        Raises:
            FormatError: The key has sealed as many as its nonces allow, or the module is longer
                than its length field can say.
        """
        if self._sealed >= MAX_MODULES:
            raise FormatError("Parquet: more than 2^32 pages in one file; write several files")
        if len(plain) > MAX_I32 - OVERHEAD_BYTES:
            raise FormatError(
                f"Parquet: {len(plain)} bytes in one module are longer than the format can say; "
                "write smaller pages or row groups"
            )
        self._sealed += 1
        nonce = self._random_bytes(NONCE_BYTES)
        begin = LENGTH_BYTES + NONCE_BYTES
        module[:begin] = (len(module) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "little") + nonce
        self._aead.encrypt_into(nonce, plain, aad, module[begin:])

    def open(self, module: bytes | bytearray | memoryview, aad: bytes, what: str) -> bytearray:
        """What a whole module holds.

        Raises:
            FormatError: Its length is another than it says.
            CiphertextError: It was altered, moved, or sealed under another key.
        """
        view = memoryview(module)
        if module_bytes(view) != len(view):
            raise FormatError(f"Parquet: {what}: {len(view)} bytes, it says another length")
        plain = bytearray(len(view) - OVERHEAD_BYTES)
        begin = LENGTH_BYTES + NONCE_BYTES
        try:
            self._aead.decrypt_into(bytes(view[LENGTH_BYTES:begin]), view[begin:], aad, plain)
        except InvalidTag as error:
            raise CiphertextError(
                f"Parquet: {what}: does not verify; it was altered, or taken from another place"
            ) from error
        return plain


def module_bytes(prefix: bytes | bytearray | memoryview) -> int:
    """Length of the module that begins so, its length field included.

    Raises:
        FormatError: Too short to be one.
    """
    said = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if len(prefix) < LENGTH_BYTES or said < NONCE_BYTES + TAG_BYTES:
        raise FormatError("Parquet: expected an encrypted module, found fewer bytes than one has")
    return LENGTH_BYTES + said
