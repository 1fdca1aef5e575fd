"""Plaintext on its way from an object to whoever takes it: one stream, in memory alone.

What it was is known when it has ended: until `finish` returned, nothing that was made of it may
become visible.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from airflow_secure_ml.core.digest import Digest, hasher
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.ports import KeyRef, ObjectWriter, PinnedObject
from airflow_secure_ml.services.sealed_header import ReaderKey, StateOf
from airflow_secure_ml.services.sealing import Opened, open_object

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What went through.

    Attributes:
        entry: Of the object, as a signed manifest names it.
        key: What opened it; None: it was plain.
        size_bytes: Length of the plaintext.
    """

    entry: Entry
    key: KeyRef | None
    size_bytes: int


class Passing:
    """An object's plaintext, read once from its beginning to its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def finish(self) -> Passed:
        """What went through, once all of it has.

        Raises:
            SecureMLError: It is not whole, was altered or could not be opened; what was read is
                worth nothing then.
        """
        raise NotImplementedError


@contextmanager
def pass_plain(pinned: PinnedObject, path: str, *, algorithm: str) -> Iterator[Passing]:
    """A plain object, its digest taken as it is read.

    Args:
        pinned: The object.
        path: Its relative name in the manifest.
        algorithm: Of the digest.
    """
    yield _Plain(pinned, path, algorithm)


@contextmanager
def pass_opened(
    pinned: PinnedObject,
    path: str,
    *,
    keys: list[ReaderKey],
    expect: Mapping[str, str],
    state_of: StateOf | None,
    algorithm: str,
) -> Iterator[Passing]:
    """A sealed object, opened by a thread of its own as fast as it is taken.

    Args:
        pinned: The object.
        path: Its relative name in the manifest.
        keys: Arguments of `sealing.open_object`, and so the others.
        expect: As `keys`.
        state_of: As `keys`.
        algorithm: Of the payload's digest.
    """
    taken, given = os.pipe()
    with contextlib.suppress(OSError):
        # Fewer turns between the two threads; a system may allow less, and it works all the same.
        fcntl.fcntl(given, fcntl.F_SETPIPE_SZ, _BUFFER_BYTES)

    def open_into(sink: BinaryIO) -> Opened:
        return open_object(
            pinned, sink, keys=keys, expect=expect, state_of=state_of, digest_algorithm=algorithm
        )

    opening = _Opening(path, os.fdopen(taken, "rb"), os.fdopen(given, "wb"), open_into)
    try:
        yield opening
    finally:
        opening.close()


class _Plain(Passing):
    def __init__(self, pinned: PinnedObject, path: str, algorithm: str) -> None:
        self._pinned, self._path = pinned, path
        self._source = _Hashed(pinned, algorithm)
        super().__init__(cast("BinaryIO", io.BufferedReader(self._source, _BUFFER_BYTES)))

    def finish(self) -> Passed:
        if self._source.error is not None:
            raise self._source.error
        self._pinned.check_unchanged()
        entry = Entry(path=self._path, size_bytes=self._source.offset, digest=self._source.digest())
        return Passed(entry=entry, key=None, size_bytes=self._source.offset)


class _Hashed(io.RawIOBase):
    """A pinned object as a stream; no longer than it was when it was pinned."""

    def __init__(self, pinned: PinnedObject, algorithm: str) -> None:
        super().__init__()
        self._pinned, self._algorithm = pinned, algorithm
        self._state = hasher(algorithm)
        self.offset = 0
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as io calls it
        wanted = memoryview(buffer)[: self._pinned.size_bytes - self.offset]
        try:
            count = self._pinned.readinto_at(self.offset, wanted) if len(wanted) else 0
        except Exception as error:  # noqa: BLE001 - told once the stream's reader has let go
            self.error = error
            return 0
        self._state.update(wanted[:count])
        self.offset += count
        return count

    def digest(self) -> Digest:
        return Digest(algorithm=self._algorithm, hex=self._state.hexdigest())


class _Opening(Passing):
    def __init__(self, path: str, taken: BinaryIO, given: BinaryIO, open_into: object) -> None:
        super().__init__(taken)
        assert callable(open_into)
        self._path, self._given, self._open_into = path, given, open_into
        self._opened: Opened | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._opened = self._open_into(self._given)
            self._given.close()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            # What is still in the buffer would be waited for, should nobody take it any more.
            with contextlib.suppress(OSError):
                self._given.close()

    def finish(self) -> Passed:
        self._thread.join()
        if self._error is not None:
            raise self._error
        opened = self._opened
        assert opened is not None
        assert opened.payload_digest is not None
        entry = Entry(
            path=self._path,
            size_bytes=opened.payload_bytes,
            digest=Digest.parse(opened.payload_digest),
            core_id=opened.core_id.hex(),
        )
        return Passed(entry=entry, key=opened.key, size_bytes=opened.plaintext_bytes)

    def close(self) -> None:
        """Have the thread end: its next write fails, where it has not ended by itself."""
        self.stream.close()
        self._thread.join()


def copy_stream(stream: BinaryIO, writer: ObjectWriter, path: str, *, algorithm: str) -> Entry:
    """Copy a stream into `writer`, its digest taken in the same pass; the caller commits it."""
    state = hasher(algorithm)
    offset = 0
    while data := stream.read(_BUFFER_BYTES):
        state.update(data)
        writer.write_at(offset, data)
        offset += len(data)
    return Entry(
        path=path,
        size_bytes=offset,
        digest=Digest(algorithm=algorithm, hex=state.hexdigest()),
    )
