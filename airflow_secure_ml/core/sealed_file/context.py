"""The encryption context of a sealed file: its pairs as bytes, and what a reader expects.

Values are compared byte for byte: two spellings of one letter (NFC, NFD) are two values.

Source: SEALED_FILE_FORMAT, Bytes (CORE, from 44) and Reading, step 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

from airflow_secure_ml.core.sealed_file.cursor import Cursor
from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError

MAX_PAIRS = 64
MAX_VALUE_BYTES = 1024
_KEY = re.compile(rb"[a-z0-9._-]{1,64}")
# Only what the format names is refused; U+0080-009F are valid values.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class _Any(Enum):
    CONTEXT = "any context"


AnyContext: TypeAlias = _Any
ANY_CONTEXT: Final = _Any.CONTEXT
"""Said explicitly by a reader that expects nothing of the context."""

Expected: TypeAlias = Mapping[str, str] | AnyContext


def encode_context(context: Mapping[str, str]) -> bytes:
    """Write a context's pairs, ascending by key, after their count.

    Raises:
        ConfigurationError: A pair, or their number, that the format does not allow.
    """
    if len(context) > MAX_PAIRS:
        raise ConfigurationError(
            f"context: {len(context)} pairs, at most {MAX_PAIRS} are allowed; leave some out"
        )
    pairs = sorted((_key_bytes(key), _value_bytes(key, context[key])) for key in context)
    encoded = bytearray(len(pairs).to_bytes(2, "big"))
    for key, value in pairs:
        encoded += len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value
    return bytes(encoded)


def decode_context(encoded: bytes) -> dict[str, str]:
    """Read a context's count and pairs, which must fill `encoded` exactly.

    Raises:
        FormatError: Anything but what `encode_context` writes.
    """
    cursor = Cursor(encoded, what="context")
    count = cursor.integer(2, "pair count")
    if count > MAX_PAIRS:
        raise FormatError(f"context: {count} pairs, at most {MAX_PAIRS} are allowed")
    context: dict[str, str] = {}
    before = b""
    for _ in range(count):
        key = cursor.counted("key", least=1, most=64)
        value = cursor.counted("value", least=0, most=MAX_VALUE_BYTES)
        if not _KEY.fullmatch(key):
            raise FormatError("context: a key holds other characters than a-z 0-9 . _ -")
        if key <= before:
            raise FormatError("context: keys are not strictly ascending")
        context[key.decode("ascii")] = _value_text(value)
        before = key
    cursor.expect_end()
    return context


def check_context(stored: Mapping[str, str], expected: Expected) -> None:
    """Return if every expected pair is stored; more may be stored.

    Raises:
        PolicyError: A pair is missing or has another value (context_differs).
        ConfigurationError: Nothing is expected, and not by `ANY_CONTEXT`.
    """
    if isinstance(expected, _Any):
        return
    if not expected:
        raise ConfigurationError(
            "context: nothing is expected; name the pairs that must hold, or say any context"
        )
    for key, value in expected.items():
        if key not in stored:
            raise PolicyError(
                f"context: the pair {key!r} is expected and not stored; "
                "this is another file, or it was sealed for another purpose",
                why="context_differs",
            )
        if stored[key].encode() != _value_bytes(key, value):
            raise PolicyError(
                f"context: the pair {key!r} is stored with another value than expected; "
                "this is another file, or it was sealed for another purpose",
                why="context_differs",
            )


def _key_bytes(key: str) -> bytes:
    encoded = key.encode("ascii", errors="replace")
    if not _KEY.fullmatch(encoded):
        raise ConfigurationError(f"context: key {key!r}: 1 to 64 of a-z 0-9 . _ - are allowed")
    return encoded


def _value_bytes(key: str, value: str) -> bytes:
    # Lone surrogates have no UTF-8 form.
    try:
        encoded = value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"context: the value of {key!r} is not valid text") from error
    if len(encoded) > MAX_VALUE_BYTES:
        raise ConfigurationError(
            f"context: the value of {key!r} has {len(encoded)} bytes, "
            f"at most {MAX_VALUE_BYTES} are allowed"
        )
    if _CONTROL.search(encoded):
        raise ConfigurationError(f"context: the value of {key!r} holds a control character")
    return encoded


def _value_text(value: bytes) -> str:
    if _CONTROL.search(value):
        raise FormatError("context: a value holds a control character")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("context: a value is not valid UTF-8") from error
