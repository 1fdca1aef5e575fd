"""Read and write the header of a sealed file.

Only the layout and its HMAC: which key opens the file is `services.sealed_header`'s business.
Every length is checked against a limit before it is believed, since the header is read before it
is authenticated.

Source: SEALED_FILE_FORMAT, Bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from airflow_secure_ml.core.crypto_policy import SUITE_COBBLESTONE, SUITE_FILE
from airflow_secure_ml.core.sealed_file.context import decode_context, encode_context
from airflow_secure_ml.core.sealed_file.cursor import Cursor
from airflow_secure_ml.core.sealed_file.keys import (
    HEADER_LABEL,
    TYPE_DATASET_KEY,
    commitment,
    expand,
    wipe,
)
from airflow_secure_ml.core.sealed_file.slots import Slot, arrange_slots, decode_slots
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, FormatError

MAGIC = bytes.fromhex("8941534d4c0d0a1a")
VERSION = 1
# Of files, in the order of their numbers; the header of a data-set key has no payload.
FILE_SUITES = (SUITE_FILE, SUITE_COBBLESTONE)
SUITE_DATASET_KEY = 0x10

COMMITMENT_AT = 12
CONTEXT_AT = 44
MIN_CORE_BYTES = 46
MAX_CORE_BYTES = 16384
MAX_HEADER_BYTES = 1 << 20
HEADER_UNIT_BYTES = 512
LARGE_UNIT_BYTES = 4096
# Below this much plaintext, a header of 4096 bytes would be a noticeable part of the file.
SMALL_PLAINTEXT_BYTES = 65536
MAC_BYTES = 32
# One read gets nearly every header whole.
FIRST_READ_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What never changes while the payload lives.

    Attributes:
        suite: 0x01, 0x02 a file, 0x10 a data-set key.
        commitment: 32 bytes that only one file key fits.
        context: The encryption context's pairs.
        encoded: The bytes it was read from, or is written as.
        id: core_id, the SHA-256 of `encoded`.
    """

    suite: int
    commitment: bytes
    context: Mapping[str, str]
    encoded: bytes
    id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A sealed file's header; nothing in it is authenticated before `check_header_mac`.

    Attributes:
        core: What a rewrap keeps.
        slots: Ascending by type and id.
        size_bytes: Where the payload begins.
        mac: The last 32 bytes.
    """

    core: Core
    slots: tuple[Slot, ...]
    size_bytes: int
    mac: bytes

    @property
    def core_id(self) -> bytes:
        """SHA-256 of the core: the file's name towards keys and signatures."""
        return self.core.id


def make_core(suite: int, file_key: bytes | bytearray, context: Mapping[str, str]) -> Core:
    """The core of a new file.

    Raises:
        ConfigurationError: A context that the format does not allow.
    """
    if suite == SUITE_DATASET_KEY and not context:
        raise ConfigurationError("a data-set key needs at least one pair of context")
    pairs = encode_context(context)
    core_bytes = CONTEXT_AT + len(pairs)
    if core_bytes > MAX_CORE_BYTES:
        raise ConfigurationError(
            f"context: {len(pairs)} bytes in all, "
            f"at most {MAX_CORE_BYTES - CONTEXT_AT} are allowed; shorten values"
        )
    fixed = MAGIC + bytes((VERSION, suite)) + core_bytes.to_bytes(2, "big")
    return _core(suite, context, fixed + commitment(file_key) + pairs)


def encode_header(
    core: Core,
    slots: Iterable[Slot],
    file_key: bytes | bytearray,
    *,
    plaintext_bytes: int | None,
) -> bytes:
    """Write a whole header.

    Args:
        core: The file's core.
        slots: In any order.
        file_key: 32 bytes that the core commits to.
        plaintext_bytes: The plaintext's length if it is known.

    Raises:
        ConfigurationError: Slots that the format does not allow.
    """
    arranged = arrange_slots(slots)
    _check_types(core.suite, arranged, ConfigurationError)
    encoded = b"".join(slot.encoded for slot in arranged)
    needed = len(core.encoded) + 6 + len(encoded) + MAC_BYTES
    small = plaintext_bytes is not None and plaintext_bytes < SMALL_PLAINTEXT_BYTES
    small = small or core.suite == SUITE_DATASET_KEY
    unit = HEADER_UNIT_BYTES if small else LARGE_UNIT_BYTES
    size_bytes = -(-needed // unit) * unit
    # 64 of the longest slots behind the longest core: 557,478 bytes, below MAX_HEADER_BYTES.
    start = core.encoded + size_bytes.to_bytes(4, "big") + len(arranged).to_bytes(2, "big")
    mac = _header_mac(core, arranged, size_bytes, file_key)
    return (start + encoded).ljust(size_bytes - MAC_BYTES, b"\0") + mac


def header_bytes_wanted(prefix: bytes) -> int:
    """How many of the object's first bytes the header needs, as far as `prefix` tells.

    Ask again with that many bytes, until the answer is no more than what is there.

    Raises:
        FormatError: Not a sealed file of version 1, or a length past its limit.
    """
    if len(prefix) < COMMITMENT_AT:
        return COMMITMENT_AT
    core_bytes = _core_bytes(prefix)
    if len(prefix) < core_bytes + 4:
        return core_bytes + 4
    return _size_bytes(prefix, core_bytes)


def decode_header(prefix: bytes, *, object_bytes: int) -> Header:
    """Read a file's header from its first bytes.

    Nothing in it is authenticated until the key has been checked with it.

    Args:
        prefix: The object's first bytes, at least the whole header.
        object_bytes: The object's whole length.

    Raises:
        FormatError: Anything that the format does not allow.
    """
    if len(prefix) < COMMITMENT_AT:
        raise FormatError(f"not a sealed file: {len(prefix)} bytes are no header")
    core_bytes = _core_bytes(prefix)
    size_bytes = _size_bytes(prefix, core_bytes)
    if len(prefix) < size_bytes or object_bytes < size_bytes:
        raise FormatError(
            f"header: {size_bytes} bytes are announced, {min(len(prefix), object_bytes)} are there"
        )
    core = _decode_core(prefix[:core_bytes])
    header = prefix[:size_bytes]
    cursor = Cursor(header[:-MAC_BYTES], what="header", position=core_bytes + 4)
    slots = decode_slots(cursor)
    if any(header[cursor.position : size_bytes - MAC_BYTES]):
        raise FormatError("header: the padding behind the slots is not zero")
    _check_types(core.suite, slots, FormatError)
    if core.suite == SUITE_DATASET_KEY and object_bytes != size_bytes:
        raise FormatError(f"data-set key: {object_bytes - size_bytes} bytes behind its header")
    return Header(core=core, slots=slots, size_bytes=size_bytes, mac=header[-MAC_BYTES:])


def check_header_mac(header: Header, file_key: bytes | bytearray) -> None:
    """Return if the header is as it was written by someone who had the file key.

    Raises:
        CiphertextError: It was altered.
    """
    mac = _header_mac(header.core, header.slots, header.size_bytes, file_key)
    if not hmac.compare_digest(mac, header.mac):
        raise CiphertextError(
            "header: its authentication code does not hold; slots were altered, added or removed"
        )


def _core_bytes(prefix: bytes) -> int:
    if prefix[:8] != MAGIC:
        raise FormatError("not a sealed file: it begins otherwise")
    if prefix[8] != VERSION:
        raise FormatError(
            f"sealed file of version {prefix[8]}, this release reads {VERSION}; "
            "upgrade airflow-secure-ml"
        )
    if prefix[9] not in (*FILE_SUITES, SUITE_DATASET_KEY):
        raise FormatError(
            f"sealed file of suite 0x{prefix[9]:02x}, this release reads 0x01, 0x02, 0x10; "
            "upgrade airflow-secure-ml"
        )
    core_bytes = int.from_bytes(prefix[10:12], "big")
    if not MIN_CORE_BYTES <= core_bytes <= MAX_CORE_BYTES:
        raise FormatError(
            f"header: a core of {core_bytes} bytes, "
            f"{MIN_CORE_BYTES} to {MAX_CORE_BYTES} are allowed"
        )
    return core_bytes


def _size_bytes(prefix: bytes, core_bytes: int) -> int:
    if len(prefix) < core_bytes + 4:
        raise FormatError(f"header: cut behind {len(prefix)} bytes")
    size_bytes = int.from_bytes(prefix[core_bytes : core_bytes + 4], "big")
    # The limit keeps a header that announces gigabytes from being read before it is checked.
    if size_bytes % HEADER_UNIT_BYTES or not 0 < size_bytes <= MAX_HEADER_BYTES:
        raise FormatError(
            f"header: {size_bytes} bytes are announced; a multiple of {HEADER_UNIT_BYTES} "
            f"up to {MAX_HEADER_BYTES} is allowed"
        )
    if size_bytes < core_bytes + 6 + MAC_BYTES:
        raise FormatError(f"header: {size_bytes} bytes do not hold a core of {core_bytes}")
    return size_bytes


def _decode_core(encoded: bytes) -> Core:
    context = decode_context(encoded[CONTEXT_AT:])
    suite = encoded[9]
    if suite == SUITE_DATASET_KEY and not context:
        raise FormatError("data-set key: its context is empty")
    return _core(suite, context, encoded)


def _core(suite: int, context: Mapping[str, str], encoded: bytes) -> Core:
    return Core(
        suite=suite,
        commitment=encoded[COMMITMENT_AT:CONTEXT_AT],
        context=MappingProxyType(dict(context)),
        encoded=encoded,
        id=hashlib.sha256(encoded).digest(),
    )


def _check_types(
    suite: int, slots: tuple[Slot, ...], error: type[FormatError] | type[ConfigurationError]
) -> None:
    if suite == SUITE_DATASET_KEY and any(slot.type == TYPE_DATASET_KEY for slot in slots):
        raise error("data-set key: a data-set key cannot open another")


def _header_mac(
    core: Core, slots: tuple[Slot, ...], size_bytes: int, file_key: bytes | bytearray
) -> bytes:
    key = expand(file_key, HEADER_LABEL + core.id)
    try:
        covered = core.encoded + size_bytes.to_bytes(4, "big") + len(slots).to_bytes(2, "big")
        return hmac.digest(key, covered + b"".join(s.authenticated for s in slots), "sha256")
    finally:
        wipe(key)
