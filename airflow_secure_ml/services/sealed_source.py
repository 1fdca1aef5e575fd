"""Where plaintext comes from: a file or a pinned object read from many threads, or a stream.

A source hands out segments in order; what changes while it is read is refused, since the sealed
file would hold a state that never was.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self, TypeAlias, cast

from airflow_secure_ml.core.ports import PinnedObject
from airflow_secure_ml.core.sealed_file.segments import PayloadSuite
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    ServiceUnavailableError,
)

Plaintext: TypeAlias = str | os.PathLike[str] | int | BinaryIO | PinnedObject
"""A path, a descriptor, a stream (pipes too), an object of a store, or a `SealedReader`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One segment's plaintext, now in the buffer that was given.

    Attributes:
        index: From 0, in order.
        length: Bytes of the buffer that it fills.
        last: Whether nothing follows.
    """

    index: int
    length: int
    last: bool


class Source(Protocol):
    """Plaintext in segments; a context manager that lets go of what it opened."""

    @property
    def size_bytes(self) -> int | None:
        """The whole length, if it is known before the end."""

    def take(self, buffer: memoryview) -> Piece | None:
        """Fill `buffer` (a whole segment's) with the next segment; None: there is none."""

    def finish(self) -> int:
        """The bytes that were taken; raises IntegrityError if the source changed meanwhile."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_source(plaintext: Plaintext, *, size_bytes: int | None, suite: PayloadSuite) -> Source:
    """Begin to read plaintext.

    Args:
        plaintext: Where it is. A descriptor or stream stays open afterwards.
        size_bytes: The length it must have, if the caller knows it.
        suite: What says how long a segment is.

    Raises:
        FormatError: A path to a directory, device, FIFO or socket.
        IntegrityError: Another length.
    """
    source = _open_source(plaintext, size_bytes, suite)
    if size_bytes is not None and source.size_bytes != size_bytes:
        source.__exit__(None, None, None)
        raise IntegrityError(
            f"plaintext: {source.size_bytes} bytes, expected {size_bytes}; it changed meanwhile"
        )
    return source


def _open_source(plaintext: Plaintext, size_bytes: int | None, suite: PayloadSuite) -> Source:
    if isinstance(plaintext, int):
        if stat.S_ISREG(os.fstat(plaintext).st_mode):
            return _FileSource(plaintext, suite, name=f"descriptor {plaintext}", owned=False)
        stream = os.fdopen(plaintext, "rb", buffering=0, closefd=False)
        return _StreamSource(cast("BinaryIO", stream), size_bytes, suite)
    if isinstance(plaintext, str | os.PathLike):
        return _open_path(os.fspath(plaintext), suite)
    if hasattr(plaintext, "readinto_at"):
        return _ObjectSource(cast("PinnedObject", plaintext), suite)
    if hasattr(plaintext, "read"):
        return _StreamSource(plaintext, size_bytes, suite)
    raise ConfigurationError(
        f"plaintext: a {type(plaintext).__name__}, expected a path, descriptor, stream or object"
    )


def _open_path(path: str, suite: PayloadSuite) -> _FileSource:
    # O_NONBLOCK: opening a FIFO would wait for someone to write to it.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise ConfigurationError(
            f"{path}: no right to read it; change its mode or owner"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(f"{path}: not a regular file; only those are sealed from a path")
    return _FileSource(descriptor, suite, name=path, owned=True)


class _PositionedSource:
    """What sources that are read at any place have in common: the next segment's number."""

    def __init__(self, size_bytes: int, name: str, suite: PayloadSuite) -> None:
        self._layout = suite.layout_of_plaintext(size_bytes)
        self._name = name
        self._next = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int | None:
        return self._layout.plaintext_bytes

    def take(self, buffer: memoryview) -> Piece | None:
        with self._lock:
            index = self._next
            if index == self._layout.count:
                return None
            self._next += 1
        segment = self._layout.segment(index)
        self._fill(segment.plain_at, buffer[: segment.plain_bytes])
        return Piece(index=index, length=segment.plain_bytes, last=segment.last)

    def finish(self) -> int:
        self._check_unchanged()
        return self._layout.plaintext_bytes

    def _fill(self, offset: int, wanted: memoryview) -> None:
        done = 0
        while done < len(wanted):
            count = self._read(offset + done, wanted[done:])
            if count == 0:
                raise self._changed()
            done += count

    def _changed(self) -> IntegrityError:
        return IntegrityError(
            f"{self._name}: it changed while it was read; nothing is published, try again "
            "when nobody writes to it"
        )

    def _read(self, offset: int, wanted: memoryview) -> int:
        raise NotImplementedError

    def _check_unchanged(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


class _FileSource(_PositionedSource):
    def __init__(self, descriptor: int, suite: PayloadSuite, *, name: str, owned: bool) -> None:
        status = os.fstat(descriptor)
        super().__init__(status.st_size, name, suite)
        self._descriptor = descriptor
        self._owned = owned
        self._state = _state(status)

    def _read(self, offset: int, wanted: memoryview) -> int:
        try:
            return os.preadv(self._descriptor, [wanted], offset)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise ServiceUnavailableError(
                service="file system", action=f"read {self._name}", reason=reason
            ) from error

    def _check_unchanged(self) -> None:
        if _state(os.fstat(self._descriptor)) != self._state:
            raise self._changed()

    def __exit__(self, *exception: object) -> None:
        if self._owned:
            os.close(self._descriptor)


class _ObjectSource(_PositionedSource):
    def __init__(self, pinned: PinnedObject, suite: PayloadSuite) -> None:
        super().__init__(pinned.size_bytes, pinned.uri, suite)
        self._pinned = pinned

    def _read(self, offset: int, wanted: memoryview) -> int:
        return self._pinned.readinto_at(offset, wanted)

    def _check_unchanged(self) -> None:
        self._pinned.check_unchanged()


class _StreamSource:
    def __init__(self, stream: BinaryIO, size_bytes: int | None, suite: PayloadSuite) -> None:
        self._stream = stream
        self._suite = suite
        self._size_bytes = size_bytes
        self._taken = 0
        self._next = 0
        self._ended = False
        # The last segment is sealed differently, so one byte is read ahead of each.
        self._ahead = b""
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int | None:
        return self._size_bytes

    def take(self, buffer: memoryview) -> Piece | None:
        with self._lock:
            if self._ended:
                return None
            index = self._next
            if index == self._suite.max_segments:
                raise ConfigurationError("plaintext: the stream does not end; split it")
            wanted = buffer[: self._suite.plain_bytes_of(index)]
            ahead = len(self._ahead)
            wanted[:ahead] = self._ahead
            length = ahead + self._fill(wanted[ahead:])
            peek = bytearray(1)
            self._ahead = bytes(peek[: self._fill(memoryview(peek))])
            self._ended = not self._ahead
            self._next += 1
            self._taken += length
            # Known to be too long before its end: buffers are made for what was announced.
            if self._size_bytes is not None and self._taken + len(self._ahead) > self._size_bytes:
                raise self._other_length("more")
            return Piece(index=index, length=length, last=self._ended)

    def finish(self) -> int:
        if self._size_bytes is not None and self._taken != self._size_bytes:
            raise self._other_length(str(self._taken))
        return self._taken

    def _other_length(self, found: str) -> IntegrityError:
        return IntegrityError(
            f"plaintext: expected a stream of {self._size_bytes} bytes, found {found}; "
            "give the right length, or none"
        )

    def _fill(self, wanted: memoryview) -> int:
        done = 0
        while done < len(wanted):
            count = self._read(wanted[done:])
            if count == 0:
                break
            done += count
        return done

    def _read(self, wanted: memoryview) -> int:
        readinto = getattr(self._stream, "readinto", None)
        if readinto is None:
            data = self._stream.read(len(wanted))
            wanted[: len(data)] = data
            return len(data)
        count: int | None = readinto(wanted)
        if count is None:
            raise ConfigurationError("plaintext: the stream does not block; give one that waits")
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
