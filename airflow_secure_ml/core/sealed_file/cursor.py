"""Walk through untrusted bytes, each length held against its limit and against what is left."""

from __future__ import annotations

from airflow_secure_ml.errors import FormatError


class Cursor:
    """A position in bytes that only moves forward.

    Args:
        data: The bytes; nothing outside them is ever read.
        what: What they are, for messages.
    """

    __slots__ = ("_data", "_what", "position")

    def __init__(self, data: bytes, *, what: str, position: int = 0) -> None:
        self._data = data
        self._what = what
        self.position = position

    def take(self, length: int, name: str) -> bytes:
        """The next `length` bytes; FormatError if fewer are left."""
        end = self.position + length
        if end > len(self._data):
            raise FormatError(
                f"{self._what}: {name} needs {length} bytes, "
                f"{len(self._data) - self.position} are left"
            )
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def integer(self, length: int, name: str) -> int:
        """A big-endian unsigned integer of `length` bytes."""
        return int.from_bytes(self.take(length, name), "big")

    def counted(self, name: str, *, least: int, most: int) -> bytes:
        """Bytes behind their two-byte length, which must lie between `least` and `most`."""
        length = self.integer(2, f"the length of {name}")
        if not least <= length <= most:
            raise FormatError(
                f"{self._what}: {name} has {length} bytes, {least} to {most} are allowed"
            )
        return self.take(length, name)

    def expect_end(self) -> None:
        """FormatError if anything is left."""
        if self.position != len(self._data):
            raise FormatError(
                f"{self._what}: {len(self._data) - self.position} bytes too many at its end"
            )
