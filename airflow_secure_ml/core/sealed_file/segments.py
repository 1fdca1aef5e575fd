"""What a suite is: how a payload is cut into segments, and the cipher that seals and opens them.

There are two, in `payload` (0x01) and `cobblestone` (0x02); `suites` finds one by its number.
Services know these shapes alone, so that a third suite changes none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
RandomBytes: TypeAlias = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where one segment lies: what is read, worked on and written at once.

    Attributes:
        index: From 0.
        last: Whether it is the payload's last.
        plain_at: Where its plaintext begins, in bytes of the plaintext.
        plain_bytes: Length of its plaintext, at most the suite's `full_plain_bytes`.
        sealed_at: Where its ciphertext begins, in bytes of the payload.
        sealed_bytes: Its ciphertext with its tags.
    """

    index: int
    last: bool
    plain_at: int
    plain_bytes: int
    sealed_at: int
    sealed_bytes: int

    @property
    def whole_at(self) -> int:
        """Where it begins with what lies before it: the first has the payload's start there."""
        return self.sealed_at if self.index else 0

    @property
    def whole_bytes(self) -> int:
        """Its length from there."""
        return self.sealed_at + self.sealed_bytes - self.whole_at


class PayloadLayout(Protocol):
    """The segments of one payload, computed from a length."""

    @property
    def payload_bytes(self) -> int:
        """From the header's end to the object's end."""

    @property
    def plaintext_bytes(self) -> int:
        """What it holds."""

    @property
    def count(self) -> int:
        """Number of segments, at least 1."""

    def segment(self, index: int) -> Segment:
        """Where segment `index` of `count` lies."""

    def index_at(self, plain_at: int) -> int:
        """The segment that holds the plaintext's byte `plain_at`."""


class PayloadCipher(Protocol):
    """Seals or opens the segments of one payload; of a sequential suite, in order, each once."""

    @property
    def start(self) -> bytes:
        """What the payload begins with."""

    def seal_into(self, index: int, last: bool, plain: Buffer, sealed: Buffer) -> None:
        """Encrypt a segment into a buffer of exactly its sealed length."""

    def open_into(self, index: int, last: bool, sealed: Buffer, plain: Buffer) -> None:
        """Decrypt a segment into a buffer of exactly its plaintext's length.

        Raises:
            CiphertextError: It was altered, moved, cut, or is another file's. What the buffer
                holds then is no plaintext and must not be used.
        """


class PayloadSuite(Protocol):
    """One way to encrypt a payload, whose number stands in the file's core."""

    @property
    def number(self) -> int:
        """The byte in the core."""

    @property
    def is_sequential(self) -> bool:
        """Whether a payload is only read from the beginning to the end."""

    @property
    def start_bytes(self) -> int:
        """Length of what lies before the first segment."""

    @property
    def full_plain_bytes(self) -> int:
        """The most plaintext that a segment holds."""

    @property
    def full_whole_bytes(self) -> int:
        """The most that a segment takes in the payload, its start included."""

    @property
    def max_segments(self) -> int:
        """The most segments of a payload."""

    def segment(self, index: int, plain_bytes: int, last: bool) -> Segment:
        """Where a segment of a payload lies whose length is not known yet."""

    def plain_bytes_of(self, index: int) -> int:
        """How much plaintext a segment holds that is not the last."""

    def layout_of_payload(self, payload_bytes: int) -> PayloadLayout:
        """The layout of a payload that is read.

        Raises:
            CiphertextError: No payload has this length: it was cut, or something was added.
        """

    def layout_of_plaintext(self, plaintext_bytes: int) -> PayloadLayout:
        """The layout of a payload that is written.

        Raises:
            ConfigurationError: More than the suite holds.
        """

    def sealing_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, random_bytes: RandomBytes
    ) -> PayloadCipher:
        """The cipher of a new payload; the file key is not kept."""

    def opening_cipher(
        self, file_key: bytes | bytearray, core_id: bytes, start: bytes
    ) -> PayloadCipher:
        """The cipher of a payload that begins so; the file key is not kept.

        Raises:
            CiphertextError: It is no payload's start, or another file's.
        """
