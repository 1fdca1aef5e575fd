"""CRC-64/NVME, the checksum that S3 keeps of a whole object.

It finds what went wrong on the way, not what somebody did: that is what signatures are for.

Source: Amazon S3 User Guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from awscrt import checksums


def crc_of(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """The checksum of bytes, or of bytes behind others whose checksum is known."""
    return int(checksums.crc64nvme(data, before))


def combine(first: int, second: int, second_bytes: int) -> int:
    """The checksum of two texts behind each other, of which the second has that length."""
    return int(checksums.combine_crc64nvme(first, second, second_bytes))


def rest_of(whole: int, first: int, rest_bytes: int) -> int:
    """The checksum of what is behind a beginning; `whole` is that of both."""
    # CRCs are linear: shifted by the rest's length, the beginning's cancels out.
    return combine(first, 0, rest_bytes) ^ whole


def to_text(crc: int) -> str:
    """As it stands in a header."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def in_answer(answer: Mapping[str, Any]) -> int | None:
    """The whole object's checksum in an answer; None: it gives none."""
    text = answer.get("ChecksumCRC64NVME")
    if not isinstance(text, str) or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None
