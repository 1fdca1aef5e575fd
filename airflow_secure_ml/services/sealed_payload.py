"""Move a payload's segments between plaintext and ciphertext, several at once, in constant memory.

Each thread reuses its two buffers of 1 MiB; digests are taken in the same pass, in order. In a
sequential suite the cipher too is passed through in order, while others read and write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias, cast

from airflow_secure_ml.core.digest import Hasher, hasher
from airflow_secure_ml.core.ports import ObjectWriter, PinnedObject
from airflow_secure_ml.core.sealed_file.header import Header
from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.core.sealed_file.segments import (
    PayloadCipher,
    PayloadLayout,
    PayloadSuite,
    Segment,
)
from airflow_secure_ml.core.sealed_file.suites import payload_suite
from airflow_secure_ml.errors import CiphertextError
from airflow_secure_ml.services.sealed_lanes import Door, Lanes
from airflow_secure_ml.services.sealed_source import Source

Progress: TypeAlias = Callable[[int], None]
"""Called with the plaintext bytes done so far, by one thread at a time."""

Sink: TypeAlias = ObjectWriter | BinaryIO
"""Where plaintext goes: an object that is committed later, or a stream."""

# How much of a payload is read at once for its digest alone.
_DIGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the segments are worked on.

    Attributes:
        threads: 1 to 64, the caller's included.
        digest_algorithm: `sha256`, `blake3`; None: no digest is taken.
        progress: Told of each segment done.
    """

    threads: int
    digest_algorithm: str | None
    progress: Progress | None


class _Tally:
    """The digest and the progress, both kept in the segments' order."""

    def __init__(self, work: Work, lanes: Lanes) -> None:
        self._hasher: Hasher | None = (
            None if work.digest_algorithm is None else hasher(work.digest_algorithm)
        )
        self._algorithm = work.digest_algorithm
        self._progress = work.progress
        self._door = Door(lanes)
        self._done = 0
        self._idle = self._hasher is None and self._progress is None

    def add(
        self, index: int, sealed: memoryview, plain: memoryview, stream: BinaryIO | None = None
    ) -> None:
        if self._idle and stream is None:
            return
        with self._door.in_turn(index):
            if self._hasher is not None:
                self._hasher.update(sealed)
            if stream is not None:
                _write_all(stream, plain)
            self._done += len(plain)
            if self._progress is not None:
                self._progress(self._done)

    def digest(self) -> str | None:
        if self._hasher is None:
            return None
        return f"{self._algorithm}:{self._hasher.hexdigest()}"


def seal_payload(
    source: Source,
    writer: ObjectWriter,
    *,
    payload_at: int,
    suite: PayloadSuite,
    cipher: PayloadCipher,
    work: Work,
) -> str | None:
    """Seal all of `source` into `writer` from `payload_at` on; returns the payload's digest."""
    layout = None if source.size_bytes is None else suite.layout_of_plaintext(source.size_bytes)
    lanes = Lanes(work.threads, pieces=None if layout is None else layout.count)
    tally, turn = _Tally(work, lanes), _turns(suite, lanes)

    def lane() -> None:
        plain, sealed = _buffers(suite, layout)
        plain_view, sealed_view = memoryview(plain), memoryview(sealed)
        try:
            while (piece := source.take(plain_view)) is not None:
                lanes.check()
                segment = suite.segment(piece.index, piece.length, piece.last)
                data, whole = plain_view[: piece.length], sealed_view[: segment.whole_bytes]
                begin = segment.whole_bytes - segment.sealed_bytes
                whole[:begin] = cipher.start[:begin]
                with turn(piece.index):
                    cipher.seal_into(piece.index, piece.last, data, whole[begin:])
                # Written before its turn, so that only the hash is left to wait for.
                writer.write_at(payload_at + segment.whole_at, whole)
                tally.add(piece.index, whole, data)
        finally:
            wipe(plain)

    lanes.run(lane)
    return tally.digest()


def open_payload(
    obj: PinnedObject,
    header: Header,
    sink: Sink | None,
    *,
    cipher: PayloadCipher,
    work: Work,
) -> str | None:
    """Open all segments of `obj` into `sink`, or nowhere; returns the payload's digest.

    Raises:
        CiphertextError: A segment does not verify. Nothing of it was written; segments before
            it may have been.
    """
    suite, layout = payload_suite(header.core.suite), payload_layout(obj, header)
    lanes = Lanes(work.threads, pieces=layout.count)
    tally, turn = _Tally(work, lanes), _turns(suite, lanes)
    numbers = iter(range(layout.count))
    writer, stream = _either(sink)

    def lane() -> None:
        plain, sealed = _buffers(suite, layout)
        plain_view, sealed_view = memoryview(plain), memoryview(sealed)
        try:
            # One step of a range's iterator is atomic.
            for index in numbers:
                lanes.check()
                segment = layout.segment(index)
                begin = segment.whole_bytes - segment.sealed_bytes
                whole = sealed_view[: segment.whole_bytes]
                data = plain_view[: segment.plain_bytes]
                read_whole(obj, header.size_bytes + segment.whole_at, whole)
                # Else the digest would cover another start than the one that opened.
                if whole[:begin] != cipher.start[:begin]:
                    raise CiphertextError("payload: its start changed while it was opened")
                with turn(index):
                    cipher.open_into(index, segment.last, whole[begin:], data)
                if writer is not None:
                    writer.write_at(segment.plain_at, data)
                tally.add(index, whole, data, stream)
        finally:
            wipe(plain)

    lanes.run(lane)
    return tally.digest()


def payload_layout(obj: PinnedObject, header: Header) -> PayloadLayout:
    """The payload's segments, from the object's length.

    Raises:
        CiphertextError: No payload has this length.
    """
    suite = payload_suite(header.core.suite)
    return suite.layout_of_payload(obj.size_bytes - header.size_bytes)


def payload_cipher(
    obj: PinnedObject,
    header: Header,
    file_key: bytes | bytearray,
    *,
    sink: Sink | None = None,
    threads: int = 1,
) -> PayloadCipher:
    """The cipher of an object's payload, after its end verified.

    Where the suite is sequential and the sink is a stream, which cannot take back what it got, the
    whole payload is verified here; an object is committed only after its last segment anyway.

    Raises:
        CiphertextError: The payload was cut, added to, or is another file's.
    """
    suite, layout = payload_suite(header.core.suite), payload_layout(obj, header)
    start = bytearray(suite.start_bytes)
    read_whole(obj, header.size_bytes, memoryview(start))
    cipher = suite.opening_cipher(file_key, header.core_id, bytes(start))
    if not suite.is_sequential:
        last = bytearray(layout.segment(layout.count - 1).plain_bytes)
        try:
            open_segment(obj, header, cipher, layout.segment(layout.count - 1), memoryview(last))
        finally:
            wipe(last)
    # A single segment is verified whole before a byte of it is given.
    elif _either(sink)[1] is not None and layout.count > 1:
        work = Work(threads=threads, digest_algorithm=None, progress=None)
        open_payload(obj, header, None, cipher=cipher, work=work)
        return suite.opening_cipher(file_key, header.core_id, bytes(start))
    return cipher


def open_segment(
    obj: PinnedObject, header: Header, cipher: PayloadCipher, segment: Segment, plain: memoryview
) -> None:
    """Read one segment and decrypt it into `plain`, which has exactly its length."""
    sealed = bytearray(segment.sealed_bytes)
    read_whole(obj, header.size_bytes + segment.sealed_at, memoryview(sealed))
    cipher.open_into(segment.index, segment.last, sealed, plain)


def digest_of_payload(obj: PinnedObject, header: Header, work: Work) -> str | None:
    """The digest of a payload as it lies there, without any key."""
    size_bytes = obj.size_bytes - header.size_bytes
    lanes = Lanes(work.threads, pieces=-(-size_bytes // _DIGEST_BYTES))
    tally = _Tally(work, lanes)
    offsets = iter(range(0, size_bytes, _DIGEST_BYTES))

    def lane() -> None:
        sealed = memoryview(bytearray(min(_DIGEST_BYTES, size_bytes)))
        for offset in offsets:
            lanes.check()
            data = sealed[: min(_DIGEST_BYTES, size_bytes - offset)]
            read_whole(obj, header.size_bytes + offset, data)
            tally.add(offset // _DIGEST_BYTES, data, data)

    lanes.run(lane)
    return tally.digest()


def _turns(suite: PayloadSuite, lanes: Lanes) -> Callable[[int], AbstractContextManager[None]]:
    """Where a thread waits for its segment's turn at the cipher; nowhere if there are no turns."""
    if suite.is_sequential:
        return Door(lanes).in_turn
    return lambda index: nullcontext()


def _buffers(suite: PayloadSuite, layout: PayloadLayout | None) -> tuple[bytearray, bytearray]:
    """A thread's two buffers; small for a small file, of which there may be thousands."""
    if layout is None:
        return bytearray(suite.full_plain_bytes), bytearray(suite.full_whole_bytes)
    return (
        bytearray(min(suite.full_plain_bytes, layout.plaintext_bytes)),
        bytearray(min(suite.full_whole_bytes, layout.payload_bytes)),
    )


def read_whole(obj: PinnedObject, offset: int, wanted: memoryview) -> None:
    """Fill `wanted` from `offset`; CiphertextError if the object ends before."""
    done = 0
    while done < len(wanted):
        count = obj.readinto_at(offset + done, wanted[done:])
        if count == 0:
            raise CiphertextError(
                f"{obj.uri}: it ends behind {offset + done} bytes; it was {obj.size_bytes} "
                "when it was opened, someone cuts it meanwhile"
            )
        done += count


def _either(sink: Sink | None) -> tuple[ObjectWriter | None, BinaryIO | None]:
    if sink is None:
        return None, None
    if hasattr(sink, "write_at"):
        return cast("ObjectWriter", sink), None
    return None, sink


def _write_all(stream: BinaryIO, data: memoryview) -> None:
    done = 0
    while done < len(data):
        # A pipe may take less than all; a buffered stream always says all.
        done += stream.write(data[done:])
