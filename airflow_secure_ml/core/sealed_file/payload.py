"""Suite 0x01: where each segment of a payload lies, and sealing or opening one of them.

Segments are independent, so callers may work on many at once; the count always comes from the
payload's length, never from what decrypts.

Source: SEALED_FILE_FORMAT, Payload: Tink's AES256_GCM_HKDF_1MB (streaming AEAD), RAW prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_secure_ml.core.crypto_policy import SUITE_FILE
from airflow_secure_ml.core.sealed_file.keys import KEY_BYTES, PAYLOAD_LABEL, expand, wipe
from airflow_secure_ml.core.sealed_file.segments import Buffer, RandomBytes, Segment
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

SEGMENT_BYTES = 1 << 20
TAG_BYTES = 16
SALT_BYTES = 32
PREFIX_BYTES = 7
START_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
MAX_SEGMENTS = (1 << 31) - 1
LATER_PLAIN_BYTES = SEGMENT_BYTES - TAG_BYTES
FIRST_PLAIN_BYTES = LATER_PLAIN_BYTES - START_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
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
    def of_payload(cls, payload_bytes: int) -> Layout:
        """The layout of a payload that is read.

        Raises:
            CiphertextError: No payload has this length: it was cut, or something was added.
        """
        count = -(-payload_bytes // SEGMENT_BYTES)
        rest = payload_bytes - (count - 1) * SEGMENT_BYTES
        # Only an empty plaintext has an empty last segment, or a cut at a boundary would pass.
        least = START_BYTES + TAG_BYTES if count <= 1 else TAG_BYTES + 1
        if payload_bytes < START_BYTES + TAG_BYTES or rest < least:
            raise CiphertextError(
                f"payload: {payload_bytes} bytes end inside a segment; it was cut or added to"
            )
        if count > MAX_SEGMENTS:
            raise CiphertextError(f"payload: {count} segments, at most {MAX_SEGMENTS} are allowed")
        plaintext_bytes = payload_bytes - START_BYTES - count * TAG_BYTES
        return cls(payload_bytes=payload_bytes, plaintext_bytes=plaintext_bytes, count=count)

    @classmethod
    def of_plaintext(cls, plaintext_bytes: int) -> Layout:
        """The layout of a payload that is written.

        Raises:
            ConfigurationError: More than the format holds (2 PiB).
        """
        count = max(1, -(-(plaintext_bytes + START_BYTES) // LATER_PLAIN_BYTES))
        if count > MAX_SEGMENTS:
            raise ConfigurationError(f"plaintext of {plaintext_bytes} bytes: split it")
        payload_bytes = plaintext_bytes + START_BYTES + count * TAG_BYTES
        return cls(payload_bytes=payload_bytes, plaintext_bytes=plaintext_bytes, count=count)

    def segment(self, index: int) -> Segment:
        """Where segment `index` of `count` lies."""
        last = index == self.count - 1
        sealed_at = max(index * SEGMENT_BYTES, START_BYTES)
        sealed_end = self.payload_bytes if last else (index + 1) * SEGMENT_BYTES
        return Segment(
            index=index,
            last=last,
            plain_at=first_plain_byte(index),
            plain_bytes=sealed_end - sealed_at - TAG_BYTES,
            sealed_at=sealed_at,
            sealed_bytes=sealed_end - sealed_at,
        )

    def index_at(self, plain_at: int) -> int:
        """The segment that holds the plaintext's byte `plain_at`."""
        return min((plain_at + START_BYTES) // LATER_PLAIN_BYTES, self.count - 1)


def first_plain_byte(index: int) -> int:
    """Where the plaintext of segment `index` begins; the same for every length."""
    return max(index * LATER_PLAIN_BYTES - START_BYTES, 0)


class SegmentCipher:
    """Seals or opens the segments of one payload, in any order and from many threads.

    Args:
        file_key: 32 bytes; not kept.
        core_id: 32 bytes of the file's core.
        salt: 32 random bytes of the payload's start.
        prefix: 7 random bytes behind them.
    """

    __slots__ = ("_aead", "_prefix", "start")

    def __init__(
        self, file_key: bytes | bytearray, core_id: bytes, *, salt: bytes, prefix: bytes
    ) -> None:
        if (len(salt), len(prefix)) != (SALT_BYTES, PREFIX_BYTES):
            raise ConfigurationError(
                f"payload: salt and prefix have {len(salt)} and {len(prefix)} bytes, "
                f"expected {SALT_BYTES} and {PREFIX_BYTES}"
            )
        root = expand(file_key, PAYLOAD_LABEL + core_id)
        key = bytearray(KEY_BYTES)
        try:
            HKDF(SHA256(), KEY_BYTES, salt, core_id).derive_into(root, key)
            self._aead = AESGCM(key)
        finally:
            wipe(root, key)
        self._prefix = prefix
        self.start = bytes((START_BYTES,)) + salt + prefix

    @classmethod
    def from_start(cls, file_key: bytes | bytearray, core_id: bytes, start: bytes) -> SegmentCipher:
        """The cipher of a payload that begins with these 40 bytes.

        Raises:
            CiphertextError: They are no payload's start.
        """
        if len(start) != START_BYTES or start[0] != START_BYTES:
            raise CiphertextError("payload: it begins otherwise than every payload")
        salt, prefix = start[1 : 1 + SALT_BYTES], start[1 + SALT_BYTES :]
        return cls(file_key, core_id, salt=salt, prefix=prefix)

    def seal_into(self, index: int, last: bool, plain: Buffer, sealed: Buffer) -> None:
        """Encrypt a segment into a buffer of exactly its length and a tag's."""
        self._aead.encrypt_into(self._nonce(index, last), plain, None, sealed)

    def open_into(self, index: int, last: bool, sealed: Buffer, plain: Buffer) -> None:
        """Decrypt a segment into a buffer of exactly its plaintext's length.

        Raises:
            CiphertextError: It was altered, moved, cut, or is another file's. What the buffer
                holds then is no plaintext and must not be used.
        """
        try:
            self._aead.decrypt_into(self._nonce(index, last), sealed, None, plain)
        except InvalidTag as error:
            raise CiphertextError(
                f"payload: segment {index} does not verify; it was altered, moved, or the file cut"
            ) from error

    def _nonce(self, index: int, last: bool) -> bytes:
        return self._prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


class Aes256Gcm1Mb:
    """Suite 0x01, as `segments.PayloadSuite` describes it."""

    number: Final = SUITE_FILE
    is_sequential: Final = False
    start_bytes: Final = START_BYTES
    full_plain_bytes: Final = LATER_PLAIN_BYTES
    full_whole_bytes: Final = SEGMENT_BYTES
    max_segments: Final = MAX_SEGMENTS

    def segment(self, index: int, plain_bytes: int, last: bool) -> Segment:
        """Where a segment of a payload lies whose length is not known yet."""
        return Segment(
            index=index,
            last=last,
            plain_at=first_plain_byte(index),
            plain_bytes=plain_bytes,
            sealed_at=max(index * SEGMENT_BYTES, START_BYTES),
            sealed_bytes=plain_bytes + TAG_BYTES,
        )

    def plain_bytes_of(self, index: int) -> int:
        """How much plaintext a segment holds that is not the last."""
        return LATER_PLAIN_BYTES if index else FIRST_PLAIN_BYTES

    def layout_of_payload(self, payload_bytes: int) -> Layout:
        """As `Layout.of_payload`."""
        return Layout.of_payload(payload_bytes)

    def layout_of_plaintext(self, plaintext_bytes: int) -> Layout:
        """As `Layout.of_plaintext`."""
        return Layout.of_plaintext(plaintext_bytes)

    def sealing_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, random_bytes: RandomBytes
    ) -> SegmentCipher:
        """The cipher of a new payload, under a fresh salt and prefix."""
        salt, prefix = random_bytes(SALT_BYTES), random_bytes(PREFIX_BYTES)
        return SegmentCipher(file_key, core_id, salt=salt, prefix=prefix)

    def opening_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, start: bytes
    ) -> SegmentCipher:
        """As `SegmentCipher.from_start`."""
        return SegmentCipher.from_start(file_key, core_id, start)
