"""Small objects under COMPLIANCE locks, read back before they are believed.

A lock holds a version, not a name: somebody may hide it behind a deletion or another version. So
whoever reads takes every version, and the names' order or newest version decide nothing.

Source: Amazon S3 User Guide, "Locking objects with Object Lock".
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3.checksums import crc_of, to_text
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.prefix import Found, versions_below
from airflow_secure_ml.adapters.aws.s3.terms import SERVICE, Terms, make_terms
from airflow_secure_ml.core.audit.relaying import Anchored
from airflow_secure_ml.errors import FormatError, ServiceRefusedError

# A note with its lines; more would be something else.
MAX_NOTE_BYTES = 65_536
# Hourly anchors of eleven years.
MAX_LISTED = 100_000
# Of the last days by the store's clock, and of every day before.
LAST_DAYS, OF_LAST_DAYS = 2, 100
_THREADS = 8
# What was written before a crash is taken for what would be written now.
_CRASH = timedelta(days=1)


class S3Anchors:
    """Notes below one prefix. A `core.audit.relaying.AnchorStore`.

    Args:
        uri: The canonical address of the prefix.
        place_of: The place at a canonical address.
        days: For how long a note is locked.
        now: UTC.
    """

    def __init__(
        self,
        uri: str,
        place_of: Callable[[str], Place],
        *,
        days: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.uri = uri
        self._place_of, self._days, self._now = place_of, days, now

    def put(self, name: str, data: bytes) -> Anchored | bytes:
        """Keep a note under a name where none is; as the protocol says."""
        place = self._place_of(f"{self.uri}/{name}")
        asked = replace(place.bucket.asked, object_lock="COMPLIANCE", object_lock_days=self._days)
        terms = make_terms(asked, token=secrets.token_hex(16), now=self._now())
        answer = place.ask(
            "anchor", "put_object", but=(Kind.CHANGED,), Body=data, IfNoneMatch="*",
            ContentType="text/plain", ChecksumCRC64NVME=to_text(crc_of(data)), **terms.headers,
        )  # fmt: skip
        if not isinstance(answer, Failure):
            return self._confirmed(place, terms, _version(answer, place.uri), data)
        head = place.ask("look at", "head_object")
        version = _version(head, place.uri)
        found = _read(place, version)
        if found != data:
            return found
        until = terms.headers["ObjectLockRetainUntilDate"] - _CRASH
        earlier = replace(terms, headers={**terms.headers, "ObjectLockRetainUntilDate": until})
        return self._confirmed(place, earlier, version, data)

    def _confirmed(self, place: Place, terms: Terms, version: str, data: bytes) -> Anchored:
        head = place.ask("look at", "head_object", VersionId=version)
        terms.check_stored(head, place.uri)
        if _read(place, version) != data:
            raise ServiceRefusedError(
                f"{place.uri}: expected the note that was written, found other bytes",
                service=SERVICE, action=f"anchor {place.uri}", reason="not confirmed",
                why="digest_differs",
            )  # fmt: skip
        return Anchored(
            size=0,
            uri=place.uri,
            version=version,
            until_ms=int(head["ObjectLockRetainUntilDate"].timestamp() * 1000),
            time_ms=time.time_ns() // 1_000_000,
        )

    def kept(self) -> Sequence[str]:
        """Notes that lie there, bounded: see `chosen`; as the protocol says."""
        listed = []
        for found in versions_below(self._place_of(self.uri)):
            listed.append(found)
            if len(listed) > MAX_LISTED:
                raise FormatError(f"{self.uri}: more than {MAX_LISTED} objects; expected anchors")
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._text, chosen(listed)))

    def _text(self, found: Found) -> str:
        place = self._place_of(f"{self.uri}/{found.name}")
        try:
            return _read(place, found.version_id).decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{place.uri}: expected a note, found no text") from error


def chosen(listed: Iterable[Found]) -> Sequence[Found]:
    """Which notes are read: the first ones of the last days, and the first of every day before.

    By the store's clock, and never by size: whoever may write there could put larger ones before
    all that tell another history, but none into a day that is over.
    """
    by_day: dict[str, list[Found]] = {}
    for found in sorted(listed, key=lambda each: (each.modified, each.name)):
        by_day.setdefault(found.modified.astimezone(UTC).date().isoformat(), []).append(found)
    days = sorted(by_day)
    last = days[-LAST_DAYS:]
    return [each for day in days for each in by_day[day][: OF_LAST_DAYS if day in last else 1]]


def _version(answer: Any, uri: str) -> str:
    version = str(answer.get("VersionId") or "null")
    if version == "null":
        raise ServiceRefusedError(
            f"{uri}: expected a bucket with versions and object lock, found one without",
            service=SERVICE, action=f"anchor {uri}", reason="not confirmed", why="store_refused",
        )  # fmt: skip
    return version


def _read(place: Place, version: str | None) -> bytes:
    which: dict[str, Any] = {} if version is None else {"VersionId": version}
    with place.ask("read", "get_object", **which)["Body"] as body:
        data: bytes = body.read(MAX_NOTE_BYTES + 1)
    if len(data) > MAX_NOTE_BYTES:
        raise FormatError(f"{place.uri}: more than {MAX_NOTE_BYTES} bytes; expected a note")
    return data
