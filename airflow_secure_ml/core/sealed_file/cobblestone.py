"""Suite 0x02: C2SP Cobblestone-256, as `cryptography` ships it; from the beginning to the end.

A segment here is 64 chunks of 16 KiB, a unit of work and nothing that the bytes know of. The last
chunk is always shorter than the others, which is what marks the end.

Source: docs/sealed-file-format.md, 0x02; c2sp.org/chunked-encryption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from airflow_secure_ml.core.crypto_policy import SUITE_COBBLESTONE
from airflow_secure_ml.core.sealed_file.keys import expand, wipe
from airflow_secure_ml.core.sealed_file.segments import Buffer, RandomBytes, Segment
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

# A label of its own: one file key never serves two suites.
COBBLESTONE_LABEL = b"asml/v1/cobblestone-256"
START_BYTES: Final = 24 + 32
TAG_BYTES: Final = 16
CHUNK_BYTES: Final = 16384
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
MAX_CHUNKS: Final = 1 << 38
CHUNKS: Final = 64
PLAIN_BYTES: Final = CHUNKS * CHUNK_BYTES
SEALED_BYTES: Final = CHUNKS * SEALED_CHUNK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class CobblestoneLayout:
    """The segments of one payload, computed from its length.

    Attributes:
        payload_bytes: From the header's end to the object's end.
        plaintext_bytes: What it holds.
        count: Number of segments, at least 1.
    """

    payload_bytes: int
    plaintext_bytes: int
    count: int

    @classmethod
    def of_payload(cls, payload_bytes: int) -> CobblestoneLayout:
        """The layout of a payload that is read; CiphertextError: no payload has this length."""
        body = payload_bytes - START_BYTES
        # The last chunk is never whole: else a cut at a chunk's end would pass.
        if body < TAG_BYTES or body % SEALED_CHUNK_BYTES < TAG_BYTES:
            raise CiphertextError(
                f"payload: {payload_bytes} bytes end inside a chunk or without the last one; "
                "it was cut or added to"
            )
        chunks = body // SEALED_CHUNK_BYTES + 1
        if chunks > MAX_CHUNKS:
            raise CiphertextError(f"payload: {chunks} chunks, at most {MAX_CHUNKS} are allowed")
        return cls.of_plaintext(body - chunks * TAG_BYTES)

    @classmethod
    def of_plaintext(cls, plaintext_bytes: int) -> CobblestoneLayout:
        """The layout of a payload that is written; ConfigurationError: more than it holds."""
        chunks = plaintext_bytes // CHUNK_BYTES + 1
        if chunks > MAX_CHUNKS:
            raise ConfigurationError(f"plaintext of {plaintext_bytes} bytes: split it")
        return cls(
            payload_bytes=START_BYTES + plaintext_bytes + chunks * TAG_BYTES,
            plaintext_bytes=plaintext_bytes,
            count=max(1, -(-plaintext_bytes // PLAIN_BYTES)),
        )

    def segment(self, index: int) -> Segment:
        """Where segment `index` of `count` lies."""
        last = index == self.count - 1
        rest = self.plaintext_bytes - index * PLAIN_BYTES
        return _segment(index, rest if last else PLAIN_BYTES, last)

    def index_at(self, plain_at: int) -> int:
        """The segment that holds the plaintext's byte `plain_at`."""
        return min(plain_at // PLAIN_BYTES, self.count - 1)


def _segment(index: int, plain_bytes: int, last: bool) -> Segment:
    chunks = plain_bytes // CHUNK_BYTES + last
    return Segment(
        index=index,
        last=last,
        plain_at=index * PLAIN_BYTES,
        plain_bytes=plain_bytes,
        sealed_at=START_BYTES + index * SEALED_BYTES,
        sealed_bytes=plain_bytes + chunks * TAG_BYTES,
    )


class CobblestoneSealer:
    """Seals the segments of one payload, in order.

    Args:
        file_key: 32 bytes; not kept.
        core_id: 32 bytes of the file's core.
    """

    __slots__ = ("_encryptor", "_next", "start")

    def __init__(self, file_key: bytes | bytearray, core_id: bytes) -> None:
        key = expand(file_key, COBBLESTONE_LABEL + core_id)
        try:
            self._encryptor = Cobblestone256Encryptor(key, core_id)
        finally:
            wipe(key)
        # Salt and commitment come first, whatever follows.
        self.start: bytes = self._encryptor.update(b"")
        self._next = 0

    def seal_into(self, index: int, last: bool, plain: Buffer, sealed: Buffer) -> None:
        """Encrypt the next segment into a buffer of exactly its sealed length."""
        self._next = _in_order(index, self._next)
        done = self._encryptor.update_into(plain, sealed)
        if last:
            memoryview(sealed)[done:] = self._encryptor.finalize()

    def open_into(self, index: int, last: bool, sealed: Buffer, plain: Buffer) -> None:
        """Refuse: this payload is being sealed."""
        raise ConfigurationError("payload: it is sealed here, expected nothing to open")


class CobblestoneOpener:
    """Opens the segments of one payload, in order, once.

    Args:
        file_key: 32 bytes; not kept.
        core_id: 32 bytes of the file's core.
        start: The payload's first 56 bytes.

    Raises:
        CiphertextError: Their commitment is another key's or file's.
    """

    __slots__ = ("_decryptor", "_next", "start")

    def __init__(self, file_key: bytes | bytearray, core_id: bytes, start: bytes) -> None:
        if len(start) != START_BYTES:
            raise CiphertextError("payload: it ends inside its start")
        key = expand(file_key, COBBLESTONE_LABEL + core_id)
        try:
            self._decryptor = Cobblestone256Decryptor(key, core_id)
        finally:
            wipe(key)
        self.start, self._next = start, 0
        try:
            # The library compares the commitment as soon as it has it.
            self._decryptor.update(start)
        except InvalidTag as error:
            raise CiphertextError(
                "payload: its start does not fit the file's key; it was altered, or is another "
                "file's"
            ) from error

    def seal_into(self, index: int, last: bool, plain: Buffer, sealed: Buffer) -> None:
        """Refuse: this payload is being opened."""
        raise ConfigurationError("payload: it is opened here, expected nothing to seal")

    def open_into(self, index: int, last: bool, sealed: Buffer, plain: Buffer) -> None:
        """Decrypt the next segment into a buffer of exactly its plaintext's length.

        Raises:
            CiphertextError: It was altered, moved, cut, or is another file's. What the buffer
                holds then is no plaintext and must not be used.
        """
        self._next = _in_order(index, self._next)
        view = memoryview(plain)
        whole = len(sealed) // SEALED_CHUNK_BYTES * CHUNK_BYTES
        try:
            self._decryptor.update_into(sealed, view[:whole])
            if last:
                view[whole:] = self._decryptor.finalize()
        except InvalidTag as error:
            raise CiphertextError(
                f"payload: segment {index} does not verify; it was altered, moved, or the file cut"
            ) from error


def _in_order(index: int, expected: int) -> int:
    if index != expected:
        raise ConfigurationError(
            f"payload: expected segment {expected}, found {index}; this suite goes from the "
            "beginning to the end"
        )
    return index + 1


class Cobblestone256:
    """Suite 0x02, as `segments.PayloadSuite` describes it."""

    number: Final = SUITE_COBBLESTONE
    is_sequential: Final = True
    start_bytes: Final = START_BYTES
    full_plain_bytes: Final = PLAIN_BYTES
    # A last segment may be full, and then has an empty chunk behind it.
    full_whole_bytes: Final = START_BYTES + SEALED_BYTES + TAG_BYTES
    max_segments: Final = MAX_CHUNKS // CHUNKS

    def segment(self, index: int, plain_bytes: int, last: bool) -> Segment:
        """Where a segment of a payload lies whose length is not known yet."""
        return _segment(index, plain_bytes, last)

    def plain_bytes_of(self, index: int) -> int:
        """How much plaintext a segment holds that is not the last."""
        return PLAIN_BYTES

    def layout_of_payload(self, payload_bytes: int) -> CobblestoneLayout:
        """As `CobblestoneLayout.of_payload`."""
        return CobblestoneLayout.of_payload(payload_bytes)

    def layout_of_plaintext(self, plaintext_bytes: int) -> CobblestoneLayout:
        """As `CobblestoneLayout.of_plaintext`."""
        return CobblestoneLayout.of_plaintext(plaintext_bytes)

    def sealing_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, random_bytes: RandomBytes
    ) -> CobblestoneSealer:
        """The cipher of a new payload; the library draws the salt itself."""
        return CobblestoneSealer(file_key, core_id)

    def opening_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, start: bytes
    ) -> CobblestoneOpener:
        """The cipher of a payload that begins so."""
        return CobblestoneOpener(file_key, core_id, start)
