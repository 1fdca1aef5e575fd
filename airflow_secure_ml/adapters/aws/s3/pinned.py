"""One version of one object: every request names its VersionId, and its ETag too.

The first request brings the beginning, so a small object costs one. What comes is compared with
the length, the ETag and, where the store gives it, the checksum of the object that was pinned.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from airflow_secure_ml.adapters.aws.failures import S3, Failure, Kind
from airflow_secure_ml.adapters.aws.s3.checksums import combine, crc_of, in_answer
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.read_ahead import ReadAhead
from airflow_secure_ml.errors import FormatError, IntegrityError, ServiceUnavailableError

log = logging.getLogger(__name__)

FIRST_BYTES = 512 << 10
_BODY_TRIES = 6
# Taken at once from an answer: each time as many bytes are made, and then copied.
_TAKEN_BYTES = 256 << 10
# RFC 9110, 15.3.7: some of it; without its range, nobody knows what.
_PARTIAL = 206


def pin(place: Place, *, version_id: str | None = None, etag: str | None = None) -> PinnedS3:
    """Pin an object as it is now, or as it was listed.

    Args:
        place: Where it lies.
        version_id: That version; None: the newest.
        etag: That ETag, with quotes; None: any.

    Raises:
        FileNotFoundError: Nothing is there.
        IntegrityError: Something else is there than what was listed.
    """
    which: dict[str, Any] = {}
    if version_id is not None:
        which["VersionId"] = version_id
    if etag is not None:
        which["IfMatch"] = etag
    answer = _first(place, which)
    body = answer.pop("Body", None)
    size_bytes = _size_of(answer, place)
    head = bytearray(min(FIRST_BYTES, size_bytes) if body is not None else 0)
    pinned = PinnedS3(place, answer, size_bytes, head)
    if version_id is not None and pinned.version_id not in (None, version_id):
        raise changed(place.uri, "the store answered for another version")
    if body is not None:
        _fill(pinned, body, 0, memoryview(head))
        pinned.check_first()
    return pinned


def _first(place: Place, which: dict[str, Any]) -> dict[str, Any]:
    but = (Kind.NOTHING, Kind.CHANGED, Kind.REFUSED)
    answer = place.ask(
        "read", "get_object", but=but, Range=f"bytes=0-{FIRST_BYTES - 1}",
        ChecksumMode="ENABLED", **which,
    )  # fmt: skip
    if isinstance(answer, Failure) and answer.status == 416:
        # An empty object has no first byte.
        answer = place.ask("read", "head_object", but=but, ChecksumMode="ENABLED", **which)
    if not isinstance(answer, Failure):
        return dict(answer)
    if answer.kind is Kind.NOTHING:
        raise FileNotFoundError(errno.ENOENT, "no object there", place.uri)
    if answer.kind is Kind.CHANGED:
        raise changed(place.uri, "another one lies there")
    raise place.error("read", answer)


def changed(uri: str, found: str) -> IntegrityError:
    """What is there is not what was pinned."""
    return IntegrityError(
        f"{uri}: expected the object that was opened, found that {found}; "
        "read it again when its writer is done"
    )


def version_of(answer: dict[str, Any]) -> tuple[str | None, str]:
    """VersionId or None, and what the port calls the version."""
    version_id = answer.get("VersionId")
    if version_id in (None, "", "null"):
        return None, f"etag:{answer['ETag']}"
    return str(version_id), str(version_id)


def _size_of(answer: dict[str, Any], place: Place) -> int:
    """The object's length, from an answer for a range of it or the whole."""
    given = answer.get("ContentRange")
    if given is None and answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL:
        return int(answer["ContentLength"])
    total = str(given).rpartition("/")[2]
    if not str(given).startswith("bytes 0-") or not total.isdecimal():
        raise FormatError(f"{place.uri}: the store answered for another range than was asked for")
    return int(total)


def _fill(pinned: PinnedS3, body: Any, offset: int, view: memoryview) -> None:
    """Fill `view` from the body of an answer; what is cut off is asked for again."""
    done = _read_into(pinned, body, view)
    tries = _BODY_TRIES
    while done < len(view):
        tries -= 1
        if not tries:
            raise ServiceUnavailableError(
                service=S3,
                action=f"read {pinned.uri}",
                reason=f"its answers broke off {_BODY_TRIES} times; try again later",
            )
        body = pinned.request(offset + done, len(view) - done)
        done += _read_into(pinned, body, view[done:])


def _read_into(pinned: PinnedS3, body: Any, view: memoryview) -> int:
    done = 0
    try:
        while done < len(view):
            count = body.readinto(view[done : done + _TAKEN_BYTES])
            if count == 0:
                break
            done += count
    # Whatever the network below raises, one byte more or less is all that it says.
    except Exception as error:  # noqa: BLE001 - urllib3, ssl and botocore each have their own
        log.info("%s: an answer broke off after %d bytes (%s)", pinned.uri, done, _name(error))
    finally:
        body.close()
    return done


def _name(error: Exception) -> str:
    return type(error).__name__


class PinnedS3:
    """PinnedObject over one version in S3.

    Attributes:
        place: Where it lies.
        answer: The store's own words about it, without its bytes.
        etag: Its ETag, with quotes.
        version_id: Its VersionId; None: the bucket keeps no versions.
    """

    def __init__(
        self, place: Place, answer: dict[str, Any], size_bytes: int, head: bytearray
    ) -> None:
        self.place, self.answer = place, answer
        self.etag = str(answer["ETag"])
        self.version_id, self._version = version_of(answer)
        self._size_bytes, self._head = size_bytes, head
        self._is_held = True
        self._begin()

    def _begin(self) -> None:
        # What is fetched ahead is not tried again once nobody will read it.
        self._stop = threading.Event()
        self.place = replace(self.place, stop=self._stop)
        self._ahead = ReadAhead(self.fetch, begin=len(self._head), size_bytes=self._size_bytes)
        self._pid = os.getpid()

    def _window(self) -> ReadAhead:
        if self._pid != os.getpid():
            # A forked child has none of its parent's threads, and its locks as they were held.
            self._begin()
        return self._ahead

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self.place.uri

    @property
    def size_bytes(self) -> int:
        """Its length when it was pinned."""
        return self._size_bytes

    @property
    def version(self) -> str:
        """The VersionId; `etag:` and the ETag where the bucket keeps no versions."""
        return self._version

    @property
    def copy_source(self) -> dict[str, str]:
        """What `upload_part_copy` calls it."""
        source = {"Bucket": self.place.address.bucket, "Key": self.place.key}
        return source | ({"VersionId": self.version_id} if self.version_id else {})

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        # Nothing is allocated past the object's end: a forged length would ask for gigabytes.
        buffer = bytearray(max(0, min(length, self._size_bytes - offset)))
        self.readinto_at(offset, buffer)
        return bytes(buffer)

    def readinto_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset`; returns the bytes read, fewer only at the end."""
        if not self._is_held:
            raise ValueError(f"{self.uri}: read after it was let go")
        view = memoryview(buffer)
        view = view[: max(0, min(len(view), self._size_bytes - offset))]
        done = max(0, min(len(view), len(self._head) - offset))
        if done:
            view[:done] = memoryview(self._head)[offset : offset + done]
        if done < len(view):
            self._window().read(offset + done, view[done:])
        return len(view)

    def read_once(self, offset: int, view: memoryview) -> None:
        """Fill `view`, whole; nothing behind it will be read."""
        done = max(0, min(len(view), len(self._head) - offset))
        if done:
            view[:done] = memoryview(self._head)[offset : offset + done]
        if done < len(view):
            self.fetch(offset + done, view[done:])

    def fetch(self, offset: int, view: memoryview) -> None:
        """Fill `view` by a request of its own."""
        _fill(self, self.request(offset, len(view)), offset, view)

    def request(self, offset: int, length: int) -> Any:
        """The body of an answer with these bytes of this very version.

        Raises:
            IntegrityError: It is gone or was replaced, or the answer is for something else.
        """
        which = {"VersionId": self.version_id} if self.version_id else {}
        last = offset + length - 1
        answer = self.place.ask(
            "read", "get_object", but=(Kind.NOTHING, Kind.CHANGED), IfMatch=self.etag,
            Range=f"bytes={offset}-{last}", **which,
        )  # fmt: skip
        if isinstance(answer, Failure):
            raise changed(self.uri, "it was replaced or removed meanwhile")
        body = answer["Body"]
        wanted = f"bytes {offset}-{last}/{self._size_bytes}"
        if answer.get("ContentRange") != wanted or answer.get("ETag") != self.etag:
            body.close()
            raise changed(self.uri, "the store answered for another one, or another range")
        return body

    def check_first(self) -> None:
        """Return if the bytes of a small object have the checksum that came with them."""
        stored = in_answer(self.answer)
        if len(self._head) == self._size_bytes and stored not in (None, crc_of(self._head)):
            raise self._damaged()

    def check_unchanged(self) -> None:
        """Raise IntegrityError if what was read is not what is stored.

        Each answer was for this version alone. What was read from beginning to end has the
        checksum that the store keeps, if it keeps one; asking for that costs one request, and
        none for a small object.
        """
        crc = self._window().crc_from(len(self._head))
        if len(self._head) == self._size_bytes or crc is None:
            return
        whole = combine(crc_of(self._head), crc, self._size_bytes - len(self._head))
        if in_answer(self.look()) not in (None, whole):
            raise self._damaged()

    def look(self) -> dict[str, Any]:
        """What the store says of it now, its checksum too; nothing if it lies there no more."""
        which = {"VersionId": self.version_id} if self.version_id else {}
        answer = self.place.ask(
            "look at", "head_object", but=(Kind.NOTHING, Kind.CHANGED), IfMatch=self.etag,
            ChecksumMode="ENABLED", **which,
        )  # fmt: skip
        # Another object under this name is no change of the one that was read.
        return {} if isinstance(answer, Failure) else dict(answer)

    def _damaged(self) -> IntegrityError:
        return IntegrityError(
            f"{self.uri}: expected bytes with the checksum that the store keeps of it, found "
            "others; they were altered in the store or on the way. Read it again, and look at "
            "what lies between"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        window = self._window()
        self._is_held = False
        self._stop.set()
        window.close()
