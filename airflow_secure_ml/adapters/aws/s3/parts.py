"""How an object is cut into parts, and one part's bytes on their way.

A part's length follows from its number alone, so an object's length need not be known; only what
the store copies by itself may be longer. No part is uploaded before all of its bytes are there.

Source: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
"""

from __future__ import annotations

from bisect import bisect_right

MIB = 1 << 20
PART_BYTES = 8 * MIB
# Doubled every so many parts: 10,000 of them hold 8 TiB, and 1,000 the first 8 GiB.
DOUBLED_EVERY = 1_000
MAX_PARTS = 10_000
MAX_OBJECT_BYTES = 5 << 40
# A part that is not the last one must have so much.
MIN_PART_BYTES = 5 * MIB


def part_bytes(number: int) -> int:
    """The length of a part, counted from 1, unless it is the last one."""
    return PART_BYTES << (number - 1) // DOUBLED_EVERY


_STEPS = [0]
for _step in range(MAX_PARTS // DOUBLED_EVERY):
    _STEPS.append(_STEPS[-1] + DOUBLED_EVERY * (PART_BYTES << _step))


def part_start(number: int) -> int:
    """The offset of a part's first byte."""
    step, rest = divmod(number - 1, DOUBLED_EVERY)
    return _STEPS[step] + rest * (PART_BYTES << step)


def part_at(offset: int) -> int:
    """The number of the part that holds the byte at `offset`."""
    step = bisect_right(_STEPS, offset) - 1
    return step * DOUBLED_EVERY + (offset - _STEPS[step]) // (PART_BYTES << step) + 1


class Layout:
    """Which part holds which byte, in one object; a part copied by the store may be longer.

    Behind such a part the others follow with the lengths of their numbers.
    """

    def __init__(self) -> None:
        # From this part on, counted as if the object began there.
        self._number, self._offset = 1, 0

    def part_of(self, offset: int) -> tuple[int, int, int]:
        """Number, start and full length of the part that holds a byte.

        Raises:
            ValueError: It lies before a part that was copied.
        """
        if offset < self._offset:
            raise ValueError(f"byte {offset} lies before what was copied; write in order")
        ahead = part_start(self._number)
        number = part_at(ahead + offset - self._offset)
        return number, self._offset + part_start(number) - ahead, part_bytes(number)

    def copied(self, number: int, end: int) -> None:
        """Part `number` ends at the offset `end`; it and those before are settled."""
        self._number, self._offset = number + 1, end


class Part:
    """The bytes of one part, written in any order, by one thread at a time.

    Attributes:
        number: From 1.
        start: Where it begins in the object.
        size_bytes: Its length unless it is the last one.
        buffer: Its bytes; as long as the highest that was written.
    """

    __slots__ = ("_runs", "buffer", "number", "size_bytes", "start")

    def __init__(self, number: int, start: int, size_bytes: int, buffer: bytearray) -> None:
        self.number, self.start, self.size_bytes = number, start, size_bytes
        self.buffer = buffer
        # Runs of bytes that are there: disjoint, ascending, never touching.
        self._runs: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        """The length up to the highest byte that was written."""
        return self._runs[-1][1] if self._runs else 0

    @property
    def is_full(self) -> bool:
        """Whether all of its bytes are there."""
        return self._runs == [(0, self.size_bytes)]

    @property
    def first_hole(self) -> int | None:
        """The first byte before `end` that is not there; None: there is none."""
        if not self._runs or self._runs[0][0] > 0:
            return 0 if self._runs else None
        return self._runs[0][1] if len(self._runs) > 1 else None

    def write(self, at: int, data: memoryview) -> None:
        """Take bytes at an offset inside the part."""
        end = at + len(data)
        if len(self.buffer) < end:
            self.buffer.extend(bytes(end - len(self.buffer)))
        # Through a view: a bytearray would make another one of the bytes first.
        with memoryview(self.buffer) as view:
            view[at:end] = data
        self._add(at, end)

    def _add(self, begin: int, end: int) -> None:
        if self._runs and self._runs[-1][1] == begin:
            self._runs[-1] = (self._runs[-1][0], end)
            return
        kept = [run for run in self._runs if run[1] < begin or run[0] > end]
        touched = [run for run in self._runs if not (run[1] < begin or run[0] > end)]
        begin = min([begin, *(run[0] for run in touched)])
        end = max([end, *(run[1] for run in touched)])
        self._runs = sorted([*kept, (begin, end)])

    def cut(self) -> None:
        """Let the buffer end with the highest byte that was written."""
        del self.buffer[self.end :]
