"""Bytes on their way to one key: a single request if they are few, else a multipart upload.

Nothing is visible before `commit`, whose last request carries the condition: nothing there yet,
or still that very version. What the store does not confirm is taken back.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.adapters.aws.s3 import uploads
from airflow_secure_ml.adapters.aws.s3.checksums import combine, crc_of, in_answer, rest_of
from airflow_secure_ml.adapters.aws.s3.multipart import Multipart
from airflow_secure_ml.adapters.aws.s3.parts import (
    MAX_OBJECT_BYTES,
    MIN_PART_BYTES,
    PART_BYTES,
    Layout,
    Part,
)
from airflow_secure_ml.adapters.aws.s3.pinned import PinnedS3
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.publishing import (
    Publishing,
    Stored,
    tags_of,
    taken,
)
from airflow_secure_ml.adapters.aws.s3.terms import Terms, make_terms
from airflow_secure_ml.core.aborting import Aborting
from airflow_secure_ml.core.ports import PinnedObject
from airflow_secure_ml.errors import IntegrityError

# What is not full yet is held in memory: whoever writes here and there is stopped.
MAX_OPEN_PARTS = 16
# The store copies up to 5 GiB by one request; one that takes minutes would time out.
COPY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is rewritten, and the checksums of its beginning and of what is written instead.

    Attributes:
        pinned: The object.
        head_bytes: How much of it does not stay as it is, or passed through here.
        head_crc: The checksum of that.
    """

    pinned: PinnedS3
    head_bytes: int = 0
    head_crc: int = 0


class S3Writer(Aborting):
    """ObjectWriter, and RangeCopier from objects reached through the same client."""

    def __init__(
        self,
        place: Place,
        *,
        metadata: Mapping[str, str] | None = None,
        is_directory: Callable[[], bool] | None = None,
    ) -> None:
        """Begin without a request, but for uploads that a killed process left here.

        Args:
            place: Where the object shall lie.
            metadata: Stored with it.
            is_directory: Tells whether a directory is there; None: nobody needs to know.
        """
        self._place, self._metadata, self._is_directory = place, dict(metadata or {}), is_directory
        self._token = secrets.token_hex(16)
        self._lock = threading.RLock()
        self._layout = Layout()
        self._parts: dict[int, Part] = {}
        self._sent_parts: set[int] = set()
        self._size_bytes = 0
        self._upload: Multipart | None = None
        self._source: _Source | None = None
        self._copied_bytes = 0
        self._terms: Terms | None = None
        self._done = False
        self._pid = os.getpid()
        self.stored: Stored | None = None
        uploads.sweep_own(place)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`, whole; waits while too much is on its way.

        Raises:
            ServiceError: The store refused a part, or did not answer; nothing is published.
        """
        view, done = memoryview(data).cast("B"), 0
        with self._lock:
            self._require_open("written")
            while done < len(view):
                part = self._part_of(offset + done)
                at = offset + done - part.start
                count = min(len(view) - done, part.size_bytes - at)
                part.write(at, view[done : done + count])
                done += count
                if part.is_full:
                    self._send(part)
            if done:
                self._size_bytes = max(self._size_bytes, offset + done)

    def _part_of(self, offset: int) -> Part:
        number, start, size_bytes = self._layout.part_of(offset)
        part = self._parts.get(number)
        if part is not None:
            return part
        if number in self._sent_parts:
            raise ValueError(f"{self._place.uri}: byte {offset} was written and sent already")
        if len(self._parts) >= MAX_OPEN_PARTS or offset >= MAX_OBJECT_BYTES:
            raise ValueError(
                f"{self._place.uri}: byte {offset} is too far from what is written; an object "
                f"holds {MAX_OBJECT_BYTES} bytes, and is written more or less in order"
            )
        # The first grows, since most objects are small.
        buffer = bytearray() if self._upload is None else self._upload.buffer(size_bytes)
        part = self._parts[number] = Part(number, start, size_bytes, buffer)
        return part

    def _send(self, part: Part) -> None:
        if self._upload is None:
            self._begin_upload()
        assert self._upload is not None
        part.cut()
        del self._parts[part.number]
        self._sent_parts.add(part.number)
        self._upload.send(part)

    def _begin_upload(self) -> None:
        kept = None
        if self._source is not None:
            # Not what came with its bytes: some stores tell of locks only who asks for no bytes.
            kept = self._source.pinned.look() or None
        self._terms = self._make_terms(kept)
        self._upload = Multipart(self._place, self._terms, has_copies=self._source is not None)

    def _make_terms(self, kept: Mapping[str, Any] | None) -> Terms:
        return make_terms(
            self._place.bucket.asked,
            token=self._token,
            now=datetime.now(UTC),
            metadata=self._metadata,
            kept=kept,
            tags="" if kept is None else tags_of(self._place, kept),
        )

    def copy_range(self, source: PinnedObject, source_offset: int, offset: int, length: int) -> int:
        """Copy up to `length` bytes inside the store; returns how many, 0 if it cannot.

        What shares a part with bytes that were written here passes through here.
        """
        with self._lock:
            self._require_open("written")
            if not self._can_copy(source, length):
                return 0
            assert isinstance(source, PinnedS3)
            number, start, size_bytes = self._layout.part_of(offset)
            if offset > start or number in self._parts:
                count = min(length, start + size_bytes - offset)
                # Not so little behind it that the store would not take it as a part.
                if length - count < MIN_PART_BYTES:
                    return 0
                self._pass(source, source_offset, offset, count)
                return count
            if self._upload is None or length < MIN_PART_BYTES:
                return 0
            return self._copy(source, source_offset, offset, length)

    def _can_copy(self, source: PinnedObject, length: int) -> bool:
        if not isinstance(source, PinnedS3):
            return False
        if source.place.bucket.client is not self._place.bucket.client:
            return False
        if self._source is None:
            # An upload that was begun for bytes from here has checksums for each part.
            if self._upload is not None:
                return False
            self._source = _Source(pinned=source)
        return self._source.pinned is source and length > 0

    def _pass(self, source: PinnedS3, source_offset: int, offset: int, count: int) -> None:
        assert self._source is not None
        # What is replaced counts too: the checksum of the rest follows from it and the whole's.
        at, crc = self._source.head_bytes, self._source.head_crc
        for begin, end in ((at, source_offset), (source_offset, source_offset + count)):
            while (at := max(at, begin)) < end:
                data = bytearray(min(PART_BYTES, end - at))
                source.read_once(at, memoryview(data))
                if begin == source_offset:
                    self.write_at(offset + at - source_offset, data)
                crc, at = crc_of(data, crc), at + len(data)
        self._source = _Source(pinned=source, head_bytes=at, head_crc=crc)

    def _copy(self, source: PinnedS3, source_offset: int, offset: int, length: int) -> int:
        assert self._upload is not None
        count = min(length, COPY_BYTES)
        if 0 < length - count < MIN_PART_BYTES:
            count -= MIN_PART_BYTES
        number, _, _ = self._layout.part_of(offset)
        self._upload.copy(number, source, source_offset, count)
        self._sent_parts.add(number)
        self._layout.copied(number, offset + count)
        self._copied_bytes += count
        self._size_bytes = max(self._size_bytes, offset + count)
        return count

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Publish the bytes by one request; returns the version."""
        with self._lock:
            self._require_open("committed")
            try:
                self._check_whole()
                if self._is_directory is not None and if_version is None and self._is_directory():
                    raise taken(self._place.uri)
                publishing = Publishing(self._place, self._token)
                condition, there = publishing.condition(
                    replace=replace, if_version=if_version, is_looked_at=self._upload is None
                )
                self.stored = self._publish(publishing, condition, there)
            finally:
                self.abort()
            return self.stored.version

    def _publish(
        self, publishing: Publishing, condition: dict[str, str], there: Mapping[str, Any] | None
    ) -> Stored:
        bucket = self._place.bucket
        if self._upload is None and bucket.asked.sse and not bucket.encrypts:
            # The answer to a begun upload shows, before a byte goes, whether it will be encrypted.
            self._begin_upload()
        if self._upload is None:
            terms = self._make_terms(there)
            part = self._parts.get(1)
            data = bytearray() if part is None else part.buffer
            return publishing.put(data, terms, condition)
        assert self._terms is not None
        if not self._sent_parts:
            self._part_of(0)
        for part in list(self._parts.values()):
            self._send(part)
        stored = publishing.join(
            self._upload, self._terms, condition, self._size_bytes, self._expected_crc
        )
        bucket.encrypts = True
        return stored

    def _expected_crc(self) -> int | None:
        """The whole object's checksum, if it can be known."""
        assert self._upload is not None
        if self._source is None:
            return self._upload.crc
        pinned = self._source.pinned
        # Parts that were sent lie before all that was copied: then one sum follows from the other.
        if pinned.size_bytes - self._source.head_bytes != self._copied_bytes:
            return None
        whole = in_answer(pinned.look())
        if whole is None:
            return None
        rest = rest_of(whole, self._source.head_crc, self._copied_bytes)
        return combine(self._upload.crc, rest, self._copied_bytes)

    def _check_whole(self) -> None:
        """Return if no byte before the last one is missing."""
        for number in range(1, max([*self._sent_parts, *self._parts], default=0) + 1):
            part = self._parts.get(number)
            if part is None and number not in self._sent_parts:
                raise self._hole(f"part {number}")
            if part is not None:
                is_last = part.start + part.end == self._size_bytes
                if part.first_hole is not None or not is_last:
                    raise self._hole(f"a byte behind {part.start + (part.first_hole or part.end)}")

    def _hole(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._place.uri}: {what} was never written; nothing is published")

    def abort(self) -> None:
        """Throw the bytes away; after a commit it does nothing."""
        if self._pid != os.getpid():
            # A forked child that unwinds does not end what its parent writes.
            return
        self._done = True
        upload, self._upload = self._upload, None
        self._parts.clear()
        if upload is not None:
            upload.abort()

    def _require_open(self, verb: str) -> None:
        if self._done:
            raise ValueError(f"{self._place.uri}: {verb} after commit or abort")
        if self._pid != os.getpid():
            raise ValueError(f"{self._place.uri}: {verb} by a forked child of its writer")
