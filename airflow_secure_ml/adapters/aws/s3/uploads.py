"""Multipart uploads that nobody will complete: a killed process's, found and aborted.

Each upload has a mark on this machine, locked for as long as its process lives; a mark that can be
locked was left. An upload of another machine is abandoned when a day brought no part. Whoever
cannot look leaves it to the bucket's lifecycle rule (AbortIncompleteMultipartUpload).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.aws.failures import Kind
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.errors import ServiceError

log = logging.getLogger(__name__)

ABANDONED = timedelta(days=1)
# Between the mark and the upload's own time: a request, and two clocks that S3 holds together.
_AROUND = timedelta(minutes=5)
_MAX_MARK_BYTES = 4096
_MAX_PAGES = 100
_SWEPT, _SETTLED_S = ".swept", 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A mark whose process is gone.

    Attributes:
        since: When the upload was begun, UTC.
        upload_id: Its id; empty: the process ended before it knew.
        path: The mark.
    """

    since: datetime
    upload_id: str
    path: Path


class Mark:
    """This process's claim to one upload; `release` gives it up."""

    def __init__(self, place: Place) -> None:
        self._descriptor = -1
        self._path: Path | None = None
        folder = _folder()
        if folder is None:
            return
        aside = folder / f".{secrets.token_hex(8)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(aside, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, f"{datetime.now(UTC).isoformat()}\n".encode())
            # Locked before it has a name that anybody looks for.
            path = folder / f"{_prefix(place)}{secrets.token_hex(8)}"
            os.rename(aside, path)
            self._path = path
        except OSError as error:
            log.warning("no mark of the upload to %s can be kept: %s", place.uri, error.strerror)

    def name(self, upload_id: str) -> None:
        """Write down the upload's id."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{upload_id}\n".encode())

    def release(self, *, is_over: bool) -> None:
        """Give it up; what is not over is left for the next writer to abort."""
        path, self._path = self._path, None
        if is_over and path is not None:
            path.unlink(missing_ok=True)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def sweep_own(place: Place) -> None:
    """Abort what killed processes of this machine left for the address; no request if nothing."""
    for left in _left(place):
        try:
            ids = [left.upload_id] if left.upload_id else _begun_around(place, left.since)
        except ServiceError as error:
            log.info("%s: an upload that was left is not looked for: %s", place.uri, error.reason)
            continue
        if all(abort(place, upload_id) for upload_id in ids):
            _settle(left.path)


def _settle(path: Path) -> None:
    """Forget a mark; what its process had on its way may come in a little later, so not at once."""
    with contextlib.suppress(OSError):
        if not path.name.endswith(_SWEPT):
            swept = path.with_name(path.name + _SWEPT)
            path.rename(swept)
            os.utime(swept)
        elif time.time() - path.stat().st_mtime > _SETTLED_S:
            path.unlink()


def sweep_abandoned(place: Place, now: datetime) -> None:
    """Abort what other machines abandoned for the address."""
    try:
        for upload in _uploads(place):
            if now - upload["Initiated"] > ABANDONED and not _is_live(place, upload["UploadId"]):
                newest = _newest_part(place, upload["UploadId"])
                if newest is None or now - newest > ABANDONED:
                    abort(place, upload["UploadId"])
    except ServiceError as error:
        log.info("%s: uploads that were abandoned are not looked for: %s", place.uri, error.reason)


def sweep_lost(place: Place, answer: Mapping[str, Any], took: timedelta) -> None:
    """Abort the uploads of requests that were repeated because their answers were lost.

    Args:
        place: Where the upload goes.
        answer: The last request's, with the upload that is used.
        took: How long it was asked for, all tries together.
    """
    with contextlib.suppress(ServiceError, KeyError, TypeError, ValueError):
        # By the store's clock: its own time of the answer, in whole seconds.
        until = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        since = until - took - timedelta(seconds=2)
        for upload in _uploads(place):
            is_other = upload["UploadId"] != answer["UploadId"]
            if is_other and since <= upload["Initiated"] and _is_nobodys(place, upload["UploadId"]):
                abort(place, upload["UploadId"])


def abort(place: Place, upload_id: str) -> bool:
    """Abort an upload; whether it is gone."""
    try:
        place.ask(
            "abort an upload to",
            "abort_multipart_upload",
            but=(Kind.NOTHING,),
            UploadId=upload_id,
        )
    except ServiceError as error:
        log.warning(
            "%s: an upload could not be aborted (%s); the next writer tries again, and a "
            "lifecycle rule of the bucket should too",
            place.uri,
            error.reason,
        )
        return False
    return True


def _folder() -> Path | None:
    """Where marks lie: this user's own, and nobody else's."""
    folder = Path(tempfile.gettempdir()) / f"airflow-secure-ml-uploads-{os.geteuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError:
        return None
    # Whoever else may write there could have uploads aborted.
    own = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return folder if own and stat.S_ISDIR(status.st_mode) else None


def _prefix(place: Place) -> str:
    endpoint = str(place.bucket.client.meta.endpoint_url)
    return hashlib.sha256(f"{endpoint}\n{place.uri}".encode()).hexdigest()[:32] + "-"


def _marks(place: Place) -> Iterator[Path]:
    folder, prefix = _folder(), _prefix(place)
    if folder is not None:
        with os.scandir(folder) as entries:
            yield from [folder / each.name for each in entries if each.name.startswith(prefix)]


def _left(place: Place) -> Iterator[Left]:
    for path in _marks(place):
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lines = os.read(descriptor, _MAX_MARK_BYTES).decode().split("\n")
            finally:
                os.close(descriptor)
            since = datetime.fromisoformat(lines[0])
            # Cut off in the middle of its line, it is no id.
            upload_id = lines[1] if len(lines) > 2 else ""
            yield Left(since=since, upload_id=upload_id, path=path)


def _is_live(place: Place, upload_id: str) -> bool:
    """Whether a process of this machine has a claim to it."""
    for path in _marks(place):
        with contextlib.suppress(OSError):
            if upload_id in path.read_text(errors="replace").split("\n"):
                return True
    return False


def _begun_around(place: Place, since: datetime) -> list[str]:
    """Uploads that a process began which ended before it knew their id."""
    return [
        upload["UploadId"]
        for upload in _uploads(place)
        if abs(upload["Initiated"] - since) < _AROUND and _is_nobodys(place, upload["UploadId"])
    ]


def _is_nobodys(place: Place, upload_id: str) -> bool:
    """Whether no writer seems to know its id: none has a mark here, none sent a part."""
    # A part tells of a writer at another machine, which began its own at the same time.
    return not _is_live(place, upload_id) and _newest_part(place, upload_id) is None


def _uploads(place: Place) -> Iterator[dict[str, Any]]:
    after: dict[str, Any] = {}
    # Limited: a store that always says there is more would be asked for ever.
    for _ in range(_MAX_PAGES):
        page = place.ask_bucket(
            "list the uploads of", "list_multipart_uploads", Prefix=place.key, **after
        )
        yield from [each for each in page.get("Uploads", []) if each["Key"] == place.key]
        if not page.get("IsTruncated"):
            return
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _newest_part(place: Place, upload_id: str) -> datetime | None:
    after: dict[str, Any] = {}
    newest: datetime | None = None
    for _ in range(_MAX_PAGES):
        page = place.ask(
            "list the parts of", "list_parts", but=(Kind.NOTHING,), UploadId=upload_id, **after
        )
        if not isinstance(page, dict):
            return newest
        times = [part["LastModified"] for part in page.get("Parts", [])]
        newest = max([*times, newest] if newest else times, default=None)
        if not page.get("IsTruncated"):
            return newest
        after = {"PartNumberMarker": page["NextPartNumberMarker"]}
    return newest
