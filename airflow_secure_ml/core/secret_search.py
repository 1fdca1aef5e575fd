"""Know a secret again: in a text as others write it, in a value wherever it lies.

A search is for accidents. What is encrypted, compressed or taken apart it does not find.
"""

from __future__ import annotations

import datetime as dt
import json
import pickle
import types
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

_SHOWS_NOTHING = (
    type(None), bool, int, float, complex, dt.date, dt.time, dt.timedelta, dt.tzinfo, Decimal,
    # They lead to whole programs, and nobody stores them.
    type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType,
)  # fmt: skip
# CPython, Include/object.h: Py_TPFLAGS_HEAPTYPE, of classes that a class statement made.
_HEAP_TYPE = 1 << 9
# What an array of texts holds in memory.
_ENCODINGS = ("utf-8", "utf-16-le", "utf-32-le")
_NO_PICKLE = (
    pickle.PickleError, TypeError, ValueError, AttributeError, OSError, ImportError, RuntimeError,
)  # fmt: skip


def spellings(secret: str) -> Iterator[str]:
    """The forms in which a secret may turn up in a text: plain, or as a URL, JSON or Python has it.

    Of the last two there are many where quotes are nested; these are the ones that libraries log.
    """
    in_url = (quote(secret), quote(secret, safe=""), quote_plus(secret))
    in_json = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    # Beside a double quote a single one is escaped.
    in_python = repr(secret)[1:-1], repr(f'"{secret}')[2:-1]
    yield from dict.fromkeys((secret, *in_url, *in_json, *in_python))
    # Logs are masked line by line, and a private key has many.
    lines = secret.split("\n")
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= 8 and not line.startswith("-----"))


def holds_secret(value: Any, secrets: Iterable[str]) -> bool:
    """Whether a value, at any depth, holds one of these secrets in any spelling."""
    forms = [form for secret in secrets for form in spellings(secret)]
    texts = _Texts(forms)
    # Kept alive: what a mapping makes for the moment would leave its id to the next.
    seen: dict[int, Any] = {}
    left = [value]
    while left and not texts.found:
        one = left.pop()
        if isinstance(one, str):
            texts.look_at(one)
        elif isinstance(one, (bytes, bytearray, memoryview)):
            texts.look_at_bytes(one)
        elif not isinstance(one, _SHOWS_NOTHING) and id(one) not in seen:
            seen[id(one)] = one
            attributes, parts = _attributes(one), _parts(one)
            left += [*attributes, *(parts or ())]
            if parts is None and _hides_some(one, attributes):
                texts.look_into(one)
    return texts.found


def _parts(value: Any) -> list[Any] | None:
    """What a value of a known kind is made of; None: it is of no such kind."""
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, BaseException):
        return list(value.args)
    return [value.__fspath__()] if hasattr(type(value), "__fspath__") else None


def _attributes(value: Any) -> list[Any]:
    """What an object holds, in its slots too."""
    fields = getattr(value, "__dict__", None)
    found = list(fields.values()) if isinstance(fields, dict) else []
    for cls in type(value).__mro__:
        for member in vars(cls).values():
            # Asked by the member itself, which runs no code of the class.
            if isinstance(member, types.MemberDescriptorType):
                try:
                    found.append(member.__get__(value))
                except AttributeError:
                    continue
    return found


def _hides_some(value: Any, attributes: list[Any]) -> bool:
    """Whether a part of a value may be out of Python's sight: its class is made in C."""
    made_in_c = (not cls.__flags__ & _HEAP_TYPE for cls in type(value).__mro__[:-1])
    return not attributes or any(made_in_c)


class _Texts:
    """Whether one of some texts has been seen, in what is looked at or written to it."""

    def __init__(self, forms: list[str]) -> None:
        self._forms = forms
        self._bytes = [one.encode(code, "surrogatepass") for one in forms for code in _ENCODINGS]
        self._overlap = max(map(len, self._bytes), default=1) - 1
        self._before = b""
        self.found = False

    def look_at(self, text: str) -> None:
        self.found = self.found or any(form in text for form in self._forms)

    def look_at_bytes(self, data: bytes | bytearray | memoryview) -> None:
        self._before = b""
        self.write(data)

    def write(self, data: Any) -> int:
        """As a file: a text may begin in one piece and end in the next."""
        piece = self._before + bytes(data)
        self.found = self.found or any(form in piece for form in self._bytes)
        self._before = piece[-self._overlap :] if self._overlap else b""
        return len(data)

    def look_into(self, value: Any) -> None:
        """Look at the pickle of a value: of an array, or of a table's blocks."""
        self._before = b""
        try:
            pickle.Pickler(self, protocol=5).dump(value)
        except _NO_PICKLE:
            # Airflow has no other way to store it.
            return
