"""Turn a record into its one canonical form of bytes, and back.

RFC 8785 restricted to what has one spelling in every language: no float, no null, integers that a
double holds exactly. What may be nested, how large it may be and how keys may look are `Limits`.

Source: AUDIT_TRAIL, Event; RFC 8785, 3.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from airflow_secure_ml.errors import FormatError

MAX_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a kind of record may look like.

    Attributes:
        max_bytes: The encoded record's length, at most.
        max_depth: Objects and arrays inside each other, the outermost counted as 1.
        key: What every key must match as a whole; None: any text without U+0000.
    """

    max_bytes: int = 32768
    max_depth: int = 4
    key: str | None = r"[a-z][a-z0-9_]{0,31}"


EVENT = Limits()

_NUL = "record: a text holds U+0000"


def encode(value: Any, *, limits: Limits = EVENT) -> bytes:
    """Encode a value: keys sorted, no white space, UTF-8.

    Args:
        value: Strings, integers within ±(2^53-1), booleans, and mappings, lists and tuples of them.
        limits: What the record may look like.

    Raises:
        FormatError: Another type, a lone surrogate or U+0000 in a text, a key or a number out of
            range, or more bytes or depth than `limits` allow.
    """
    data = _utf8(_ENCODER.encode(_ordered(value, limits, 1)))
    if len(data) > limits.max_bytes:
        raise FormatError(f"record: {len(data)} bytes, at most {limits.max_bytes} are allowed")
    return data


def decode(data: bytes, *, limits: Limits = EVENT) -> Any:
    """Decode bytes that `encode` made; anything spelled differently is refused.

    Args:
        data: One record, whole.
        limits: What the record may look like.

    Raises:
        FormatError: Not JSON, not canonical, a key twice, or not within `limits`.
    """
    if len(data) > limits.max_bytes:
        raise FormatError(f"record: {len(data)} bytes, at most {limits.max_bytes} are allowed")
    try:
        value = _DECODER.decode(bytes(data).decode("utf-8"))
    # A ValueError is also how an integer of thousands of digits is refused, and bytes not UTF-8.
    except (ValueError, RecursionError) as error:
        raise FormatError("record: not JSON in UTF-8") from error
    # A key that stands twice is refused here too: encoded again, it stands once.
    if encode(value, limits=limits) != data:
        raise FormatError(
            "record: not in canonical form; something else than this package wrote it"
        )
    return value


def checked_text(text: str) -> str:
    """Return a text that a record may hold.

    Raises:
        FormatError: It holds U+0000 or a lone surrogate.
    """
    if "\0" in text:
        raise FormatError(_NUL)
    _utf8(text)
    return text


def _ordered(value: Any, limits: Limits, depth: int) -> Any:
    """Copy `value` with its keys in order, checking each part on the way.

    Lone surrogates are left to the encoder: one look at the whole text instead of one at each.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise FormatError(_NUL)
        return value
    # True and False are integers to Python, and both are allowed.
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise FormatError("record: an integer beyond ±(2^53-1); write it as text")
        return value
    # `dict` is a Mapping; that it is one of these is said much sooner.
    is_object = isinstance(value, (dict, Mapping))
    if not is_object and not isinstance(value, (list, tuple)):
        raise FormatError(f"record: a value of type {type(value).__name__} has no canonical form")
    if depth > limits.max_depth:
        raise FormatError(f"record: nested deeper than {limits.max_depth}")
    if is_object:
        return {key: _ordered(value[key], limits, depth + 1) for key in _keys(value, limits)}
    return [_ordered(item, limits, depth + 1) for item in value]


def _keys(value: Mapping[Any, Any], limits: Limits) -> list[str]:
    """The keys of an object in order, each checked."""
    try:
        together = "".join(value)
    except TypeError as error:
        raise FormatError("record: a key that is not a text") from error
    if limits.key is not None:
        for key in value:
            _check_key(key, limits.key)
    elif "\0" in together:
        raise FormatError(_NUL)
    # RFC 8785, 3.2.3: by UTF-16 code units; big-endian bytes compare alike. By code points,
    # U+1F600 would come after U+FB33; ASCII is in the same order either way.
    return sorted(value) if together.isascii() else sorted(value, key=_utf16_units)


# Records use the same few keys again and again; one that does not match raises, so is not kept.
@lru_cache(maxsize=1024)
def _check_key(key: str, pattern: str) -> None:
    if not re.fullmatch(pattern, key, re.ASCII):
        raise FormatError(f"record: a key that does not match {pattern}")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatError("record: a text holds half a surrogate pair, not valid UTF-8") from error


def _utf16_units(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _refuse_number(text: str) -> NoReturn:
    raise FormatError("record: a number that is not an integer")


_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number)
