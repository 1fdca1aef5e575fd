"""One connection: its bytes become frames, what is taken waits for its next point.

No socket and no file is touched here. What a connection may hold in memory is bounded by what its
reader hands over at once and by `FLUSH_BYTES`.

Source: AUDIT_TRAIL, Spool, bytes; `core.audit.collecting`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from airflow_secure_ml.core.audit.collecting import POINT
from airflow_secure_ml.core.audit.frame import (
    HEADER_BYTES,
    Frame,
    SegmentHeader,
    decode_header,
    encode_frame,
    read_frames,
)
from airflow_secure_ml.core.audit.receiving import TAKEN, Place, Reception, Refused
from airflow_secure_ml.errors import FormatError

# Written before any point: who never waits must not fill the memory.
FLUSH_BYTES: Final = 64 << 10


class Talk:
    """What one sender says; it says no more after `refused`.

    Args:
        find_place: Where an emitter is, for this sender; a Refused if it may not speak for it,
            None if that cannot be told yet.
    """

    def __init__(self, find_place: Callable[[str], Place | Refused | None]) -> None:
        self._find_place = find_place
        self._buffer = bytearray()
        self._taken = bytearray()
        self.reception: Reception | None = None
        self.refused: Refused | None = None
        self.is_at_point = False

    @property
    def taken(self) -> bytes:
        """Frames that are not written yet."""
        return bytes(self._taken)

    @property
    def is_full(self) -> bool:
        """Whether what is taken has to be written before more is."""
        return len(self._taken) >= FLUSH_BYTES

    @property
    def is_waiting(self) -> bool:
        """Whether it has said whose events come, and has to wait before they are looked at."""
        return self.reception is None and len(self._buffer) >= HEADER_BYTES

    @property
    def place(self) -> Place | None:
        """How far the emitter is with all that was taken."""
        return None if self.reception is None else self.reception.place

    def add(self, data: bytes) -> None:
        """Hand over bytes; `go_on` looks at them."""
        self._buffer += data

    def written(self) -> None:
        """What was taken lies in the segment."""
        self._taken.clear()

    def answered(self) -> None:
        """The point was answered."""
        self.is_at_point = False

    def go_on(self) -> None:
        """Look at what was handed over, up to the next point or until there is enough to write."""
        if self.refused is None and not self.is_at_point:
            try:
                self._go_on()
            except FormatError as error:
                self.refused = Refused(because=str(error)[:200])

    def _go_on(self) -> None:
        reception = self.reception or self._begin()
        if reception is None:
            return
        scan = read_frames(bytes(self._buffer))
        for frame in scan.frames:
            self._take(reception, frame)
            if self.refused is not None:
                return
        del self._buffer[: scan.used]
        if scan.stop == "zero" and len(self._buffer) >= len(POINT):
            self._point(reception)
        elif scan.stop in {"length", "crc"}:
            self.refused = Refused(because="bytes that are no frame")

    def _begin(self) -> Reception | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        header = decode_header(bytes(self._buffer[:HEADER_BYTES]))
        if header != SegmentHeader(emitter=header.emitter, part=0):
            raise FormatError("a line begins with the header of part 0")
        place = self._find_place(header.emitter)
        if isinstance(place, Refused):
            self.refused = place
        if not isinstance(place, Place):
            return None
        self.reception = Reception(header.emitter, place)
        del self._buffer[:HEADER_BYTES]
        return self.reception

    def _take(self, reception: Reception, frame: Frame) -> None:
        verdict = reception.take(frame)
        if isinstance(verdict, Refused):
            self.refused = verdict
        if verdict is TAKEN or (isinstance(verdict, Refused) and verdict.is_kept):
            self._taken += encode_frame(frame.kind, frame.payload)

    def _point(self, reception: Reception) -> None:
        if bytes(self._buffer[: len(POINT)]) != POINT:
            self.refused = Refused(because="bytes that are neither a frame nor a point")
            return
        del self._buffer[: len(POINT)]
        if reception.is_repeating:
            self.refused = Refused(because="a point in the middle of what came again")
            return
        self.is_at_point = True
