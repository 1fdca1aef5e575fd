"""Fetch what will be read next, while what was read is worked on.

Only where reads follow each other; a read anywhere else is a request of its own. The window grows
from one piece to some, so whoever reads here and there fetches little that is not used.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from airflow_secure_ml.adapters.aws.s3.checksums import combine, crc_of

MIB = 1 << 20
FIRST_PIECE_BYTES, PIECE_BYTES = 1 * MIB, 8 * MIB
THREADS = 6
# Pieces on their way, and those that slower threads still read.
_AHEAD, _BEHIND = THREADS, 1
_ENDS = 64


@dataclass(slots=True, kw_only=True)
class _Piece:
    """Bytes on their way, or here."""

    offset: int
    buffer: bytearray
    length: int
    crc: Future[int]

    @property
    def end(self) -> int:
        return self.offset + self.length


class ReadAhead:
    """The window over one object; safe from many threads."""

    def __init__(
        self, fetch: Callable[[int, memoryview], None], *, begin: int, size_bytes: int
    ) -> None:
        """Begin without a request.

        Args:
            fetch: Fills a view from an offset.
            begin: Where a read from the beginning would go on.
            size_bytes: The object's length.
        """
        self._fetch, self._size_bytes = fetch, size_bytes
        self._lock = threading.Lock()
        self._pieces: deque[_Piece] = deque()
        self._ends: deque[int] = deque([begin], maxlen=_ENDS)
        self._grown_bytes, self._depth = FIRST_PIECE_BYTES, 1
        self._pool: ThreadPoolExecutor | None = None
        # The checksum of what was fetched without a gap, from where to where.
        self._crcs: list[tuple[int, int, Future[int]]] = []
        self._is_closed = False

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view`, from the window where it holds the bytes."""
        done = 0
        while done < len(view):
            piece = self._piece_at(offset + done)
            if piece is None:
                self._fetch(offset + done, view[done:])
                with self._lock:
                    self._ends.append(offset + len(view))
                return
            piece.crc.result()
            begin = offset + done - piece.offset
            count = min(len(view) - done, piece.length - begin)
            view[done : done + count] = memoryview(piece.buffer)[begin : begin + count]
            done += count

    def _piece_at(self, offset: int) -> _Piece | None:
        with self._lock:
            if self._is_closed:
                raise ValueError("read after it was let go")
            found = self._find(offset)
            if found is None and offset in self._ends:
                self._ends.remove(offset)
                self._restart(offset)
                found = self._find(offset)
            elif found is None and self._pieces and offset == self._pieces[-1].end:
                self._extend()
                found = self._find(offset)
            if found is not None:
                self._move_to(found)
            return found

    def _find(self, offset: int) -> _Piece | None:
        return next((one for one in self._pieces if one.offset <= offset < one.end), None)

    def _restart(self, offset: int) -> None:
        self._pieces.clear()
        self._grown_bytes, self._depth = FIRST_PIECE_BYTES, 1
        self._begin(offset)

    def _move_to(self, piece: _Piece) -> None:
        """Keep the window as deep as it has grown, seen from the piece that is read now."""
        place = self._pieces.index(piece)
        while len(self._pieces) - 1 - place < self._depth:
            if self._pieces[-1].end >= self._size_bytes:
                break
            self._extend()
        while place > _BEHIND:
            # Not used again: a slower thread may be copying from it.
            self._pieces.popleft()
            place -= 1

    def _extend(self) -> None:
        if self._grown_bytes < PIECE_BYTES:
            self._grown_bytes *= 2
        self._depth = min(self._depth + 1, _AHEAD)
        self._begin(self._pieces[-1].end)

    def _begin(self, offset: int) -> None:
        length = min(self._grown_bytes, self._size_bytes - offset)
        if length <= 0:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="s3-read")
        buffer = bytearray(length)
        crc = self._pool.submit(self._bring, offset, buffer)
        self._pieces.append(_Piece(offset=offset, buffer=buffer, length=length, crc=crc))
        self._crcs.append((offset, offset + length, crc))

    def _bring(self, offset: int, buffer: bytearray) -> int:
        self._fetch(offset, memoryview(buffer))
        return crc_of(buffer)

    def crc_from(self, begin: int) -> int | None:
        """CRC-64/NVME of everything from `begin` on; None: not all of it was fetched in one go."""
        with self._lock:
            crcs = list(self._crcs)
        crc, at = 0, begin
        for offset, end, each in crcs:
            # What failed, or is still on its way, was read by nobody.
            if offset != at or not each.done() or each.exception() is not None:
                return None
            crc, at = combine(crc, each.result(), end - offset), end
        return crc if at == self._size_bytes else None

    def close(self) -> None:
        """Fetch no more; what is on its way is waited for."""
        with self._lock:
            self._is_closed = True
            pool, self._pool = self._pool, None
            self._pieces.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
