"""Read and write Thrift's compact protocol, which Parquet's footers and page headers are in.

A struct becomes fields by number, whatever they mean, so that what a newer writer adds survives.
Depth and lengths are bounded by what is there before anything is made of them.

Source: Apache Thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.errors import FormatError

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
# A footer nests six deep; deeper ones are there to exhaust the stack.
MAX_DEPTH = 24
_VARINT_BYTES = 10


class CutShortError(FormatError):
    """The bytes end inside a struct: more of them may complete it."""


@dataclass(slots=True)
class Items:
    """A list or set.

    Attributes:
        kind: The type that all items have.
        items: They.
    """

    kind: int
    items: list[Any]


@dataclass(slots=True)
class Struct:
    """A struct's fields: by number, the type and the value.

    Attributes:
        fields: Integers as int; texts, doubles and maps as their bytes; bools, Struct, Items.
    """

    fields: dict[int, tuple[int, Any]] = field(default_factory=dict)

    def copy(self) -> Struct:
        """Another struct with these fields; what they hold is shared."""
        return Struct(dict(self.fields))

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def drop(self, *numbers: int) -> None:
        """Remove fields, there or not."""
        for number in numbers:
            self.fields.pop(number, None)

    def put(self, number: int, kind: int, value: Any) -> None:
        """Set a field."""
        self.fields[number] = (kind, value)

    def integer(self, number: int) -> int:
        """A field that must be an integer; FormatError otherwise."""
        value: int = self._get(number, (BYTE, I16, I32, I64), "an integer")
        return value

    def binary(self, number: int) -> bytes:
        """A field that must be bytes or text; FormatError otherwise."""
        value: bytes = self._get(number, (BINARY,), "bytes")
        return value

    def struct(self, number: int) -> Struct:
        """A field that must be a struct; FormatError otherwise."""
        value: Struct = self._get(number, (STRUCT,), "a struct")
        return value

    def structs(self, number: int) -> list[Struct]:
        """A field that must be a list of structs; FormatError otherwise."""
        return self._items(number, STRUCT)

    def binaries(self, number: int) -> list[bytes]:
        """A field that must be a list of bytes or texts; FormatError otherwise."""
        return self._items(number, BINARY)

    def _items(self, number: int, kind: int) -> list[Any]:
        value: Items = self._get(number, (LIST,), "a list")
        if value.items and value.kind != kind:
            raise FormatError(f"Parquet metadata: field {number} lists another type")
        return value.items

    def _get(self, number: int, kinds: tuple[int, ...], what: str) -> Any:
        kind, value = self.fields.get(number, (0, None))
        if kind not in kinds:
            raise FormatError(f"Parquet metadata: field {number}: expected {what}")
        return value


def read_struct(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[Struct, int]:
    """Read a struct that begins at `at`; returns it and where it ends.

    Raises:
        CutShortError: The bytes end before it does.
        FormatError: Not this protocol, a field twice, or nested too deep.
    """
    reader = _Reader(bytes(data), at)
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise CutShortError("Parquet metadata: cut short") from error


def write_struct(struct: Struct) -> bytes:
    """The bytes of a struct, its fields in ascending order."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def varint(value: int) -> bytes:
    """An integer that is not negative in groups of seven bits."""
    out = bytearray()
    _write_varint(out, value)
    return bytes(out)


class _Reader:
    """A position in bytes; running off their end is an IndexError."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at

    def struct(self, depth: int) -> Struct:
        if depth > MAX_DEPTH:
            raise FormatError(f"Parquet metadata: nested deeper than {MAX_DEPTH}")
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields:
                raise FormatError(f"Parquet metadata: field {number} stands twice")
            if kind in (TRUE, FALSE):
                fields[number] = (TRUE, kind == TRUE)
            else:
                fields[number] = (kind, self._value(kind, depth))
        return Struct(fields)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return self._take(8)
        # Parquet has no map, and what cannot be read cannot be copied.
        raise FormatError(f"Parquet metadata: a value of Thrift type {kind}")

    def _list(self, depth: int) -> Items:
        if depth > MAX_DEPTH:
            raise FormatError(f"Parquet metadata: nested deeper than {MAX_DEPTH}")
        head = self._byte()
        count, kind = head >> 4, head & 0x0F
        if count == 15:
            count = self._varint()
        # An item takes a byte at least: a count past the end would fill the memory first.
        if count > len(self._data) - self.at:
            raise IndexError
        if kind in (TRUE, FALSE):
            return Items(kind, [self._byte() == TRUE for _ in range(count)])
        return Items(kind, [self._value(kind, depth) for _ in range(count)])

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise IndexError
        self.at += count
        return taken

    def _varint(self) -> int:
        # Nearly all of them: a footer has a hundred thousand.
        if (byte := self._data[self.at]) < 0x80:
            self.at += 1
            return byte
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise FormatError("Parquet metadata: an integer of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(struct.fields.items()):
        written = kind if kind not in (TRUE, FALSE) else (TRUE if value else FALSE)
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | written)
        else:
            out.append(written)
            _write_varint(out, _zigzag(number))
        last = number
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        _write_varint(out, _zigzag(value))
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        _write_list(out, value)
    elif kind == BYTE:
        out.append(value)
    else:
        out += value


def _write_list(out: bytearray, listed: Items) -> None:
    count = len(listed.items)
    if count < 15:
        out.append(count << 4 | listed.kind)
    else:
        out.append(0xF0 | listed.kind)
        _write_varint(out, count)
    for item in listed.items:
        if listed.kind in (TRUE, FALSE):
            out.append(TRUE if item else FALSE)
        else:
            _write_value(out, listed.kind, item)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else ((-value) << 1) - 1


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
