"""A digest with the name of its algorithm, as text `sha256:<hex>` everywhere.

Reading the bytes is the caller's part: chunks go in, a value comes out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from airflow_secure_ml.errors import ConfigurationError, FormatError
from airflow_secure_ml.extras import import_extra

ALGORITHMS = ("sha256", "blake3")
_TEXT = re.compile(r"(sha256|blake3):([0-9a-f]{64})")


class Hasher(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, 64 hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A digest of 32 bytes.

    Attributes:
        algorithm: One of `ALGORITHMS`.
        hex: 64 lower-case hex digits.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        if not _TEXT.fullmatch(str(self)):
            raise FormatError(
                f"digest {str(self)[:80]!r}: expected sha256 or blake3, 64 hex digits"
            )

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<hex>` or `blake3:<hex>`.

        Raises:
            FormatError: Anything else, upper-case hex included.
        """
        algorithm, _, hex_digits = text.partition(":")
        return cls(algorithm=algorithm, hex=hex_digits)

    def equals(self, other: Digest) -> bool:
        """Compare in constant time; digests of two algorithms are never equal."""
        return hmac.compare_digest(str(self), str(other))


def hasher(algorithm: str = "sha256") -> Hasher:
    """A fresh hash of that algorithm.

    Raises:
        ConfigurationError: An algorithm not in `ALGORITHMS`.
        MissingExtraError: blake3 without the extra of that name.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "blake3":
        fresh: Hasher = import_extra("blake3", extra="blake3").blake3()
        return fresh
    raise ConfigurationError(f"digest algorithm {algorithm!r}: expected one of {ALGORITHMS}")


def digest_of(
    chunks: Iterable[bytes | bytearray | memoryview], *, algorithm: str = "sha256"
) -> Digest:
    """Digest bytes given in chunks; where they are cut makes no difference.

    Raises:
        ConfigurationError, MissingExtraError: As `hasher`.
    """
    state = hasher(algorithm)
    for chunk in chunks:
        state.update(chunk)
    return Digest(algorithm=algorithm, hex=state.hexdigest())
