"""A sealed object as a seekable file: pandas, polars and pyarrow read parts of it.

Only segments that are asked for are fetched, and each is verified before a byte of it is returned.
What was not read is not proven; a payload's digest is `sealing.digest_payload`'s business. A suite
that is only read from beginning to end is refused.

Source: SEALED_FILE_FORMAT, Reading, step 7.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_secure_ml.core.crypto_policy import SUITES
from airflow_secure_ml.core.ports import KeyRef, PinnedObject
from airflow_secure_ml.core.sealed_file.context import Expected
from airflow_secure_ml.core.sealed_file.header import FILE_SUITES, Header
from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.core.sealed_file.suites import payload_suite
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.sealed_header import (
    ReaderKey,
    StateOf,
    naming,
    read_sealed_header,
    unlock,
)
from airflow_secure_ml.services.sealed_payload import (
    open_segment,
    payload_cipher,
    payload_layout,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DEFAULT_CACHED_SEGMENTS = 4


def check_random_access(header: Header, uri: str) -> None:
    """Return if parts of a sealed object can be read.

    Raises:
        ConfigurationError: Its suite is only read from the beginning to the end.
    """
    suite = header.core.suite
    if suite in FILE_SUITES and payload_suite(suite).is_sequential:
        raise ConfigurationError(
            f"{uri}: sealed in suite {SUITES[suite]}, which is read from the beginning to the end: "
            "a stream, parts or columns of it are not to be had; read it without stream=True, or "
            f"seal it in {SUITES[FILE_SUITES[0]]}"
        )


class SealedReader(io.RawIOBase):
    """Random access to the plaintext of a sealed object; closing it wipes what it cached.

    Args:
        obj: Pinned; it is not closed with the reader.
        keys: The reader's list, tried in its order.
        expect: Pairs of the context that must be stored, or `ANY_CONTEXT`.
        cached_segments: How many segments of 1 MiB are kept, at least 1.
        state_of: `KeySystem.state_of`, to say why no key opens.

    Raises:
        FormatError, PolicyError, CiphertextError, ServiceUnavailableError: As `open_object`;
            the last segment is verified before the constructor returns.
        ConfigurationError: Its suite has no random access; no key was asked.
    """

    def __init__(
        self,
        obj: PinnedObject,
        *,
        keys: Sequence[ReaderKey],
        expect: Expected,
        cached_segments: int = DEFAULT_CACHED_SEGMENTS,
        state_of: StateOf | None = None,
    ) -> None:
        super().__init__()
        self._cache: OrderedDict[int, bytearray] = OrderedDict()
        self._cached_segments = cached_segments
        self._lock = threading.RLock()
        self._position = 0
        if cached_segments < 1:
            raise ConfigurationError(f"cached_segments: {cached_segments}, expected at least 1")
        self._obj = obj
        self._header = read_sealed_header(obj)
        check_random_access(self._header, obj.uri)
        with (
            naming(obj.uri),
            unlock(self._header, keys=keys, expect=expect, state_of=state_of) as unlocked,
        ):
            self._layout = payload_layout(obj, self._header)
            self._cipher = payload_cipher(obj, self._header, unlocked.file_key)
            self._key = unlocked.key

    @property
    def uri(self) -> str:
        """The sealed object's address."""
        return self._obj.uri

    @property
    def size_bytes(self) -> int:
        """Length of the plaintext."""
        return self._layout.plaintext_bytes

    @property
    def context(self) -> Mapping[str, str]:
        """All pairs that are stored, authenticated."""
        return self._header.core.context

    @property
    def core_id(self) -> bytes:
        """32 bytes, the file's name towards keys and signatures."""
        return self._header.core_id

    @property
    def key(self) -> KeyRef:
        """The key that opened it."""
        return self._key

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; behind the end is allowed and reads nothing there.

        Raises:
            ValueError: Before the beginning, or an unknown `whence`.
        """
        self._check_open()
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}
        if whence not in origin:
            raise ValueError(f"whence {whence}: expected 0, 1 or 2")
        if origin[whence] + offset < 0:
            raise ValueError(f"position {origin[whence] + offset} lies before the beginning")
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from here on; fewer bytes only at the end.

        Raises:
            CiphertextError: A segment does not verify; nothing of it is in `buffer`.
        """
        with self._lock:
            count = self.readinto_at(self._position, memoryview(buffer).cast("B"))
            self._position += count
            return count

    def check_unchanged(self) -> None:
        """Raise IntegrityError if the sealed object changed since it was pinned."""
        self._obj.check_unchanged()

    def readinto_at(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset` without moving; safe from many threads."""
        self._check_open()
        wanted = max(0, min(len(buffer), self.size_bytes - offset))
        done = 0
        while done < wanted:
            segment = self._layout.segment(self._layout.index_at(offset + done))
            begin = offset + done - segment.plain_at
            count = min(segment.plain_bytes - begin, wanted - done)
            with self._lock:
                plain = self._segment(segment.index)
                buffer[done : done + count] = memoryview(plain)[begin : begin + count]
            done += count
        return done

    def close(self) -> None:
        """Wipe the cached plaintext; may be called twice."""
        if not self.closed:
            with self._lock:
                wipe(*self._cache.values())
                self._cache.clear()
        super().close()

    def _segment(self, index: int) -> bytearray:
        plain = self._cache.get(index)
        if plain is not None:
            self._cache.move_to_end(index)
            return plain
        segment = self._layout.segment(index)
        plain = bytearray(segment.plain_bytes)
        with naming(self._obj.uri):
            open_segment(self._obj, self._header, self._cipher, segment, memoryview(plain))
        while len(self._cache) >= self._cached_segments:
            wipe(self._cache.popitem(last=False)[1])
        self._cache[index] = plain
        return plain

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("read of a closed sealed file")
