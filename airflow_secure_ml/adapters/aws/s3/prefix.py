"""What lies below a prefix: every key in it, page by page.

A store's own answers are as little believed as anything: a key outside of the prefix is refused.
Keys come URL-encoded, and botocore decodes them where it asked for that itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One version of one key.

    Attributes:
        name: Relative to the directory; ends with a slash for a folder's marker.
        version_id: None: not asked for, or the bucket keeps none.
        etag: With quotes.
        size_bytes: Its length.
        modified: When the store got it, UTC.
        is_latest: Whether it is what a reader without a version gets.
    """

    name: str
    version_id: str | None
    etag: str
    size_bytes: int
    modified: datetime
    is_latest: bool


def keys_below(root: Place) -> Iterator[Found]:
    """The newest version of every key, in the store's order."""
    after: dict[str, Any] = {}
    while True:
        page = root.ask_bucket("list", "list_objects_v2", Prefix=root.address.prefix, **after)
        for each in page.get("Contents", []):
            yield _found(root, each, version_id=None, is_latest=True)
        if not page.get("IsTruncated"):
            return
        after = _moved(root, after, {"ContinuationToken": page["NextContinuationToken"]})


def versions_below(root: Place) -> Iterator[Found]:
    """Every version of every key; delete markers are left out."""
    after: dict[str, Any] = {}
    while True:
        page = root.ask_bucket(
            "list the versions of",
            "list_object_versions",
            Prefix=root.address.prefix,
            **after,
        )
        for each in page.get("Versions", []):
            version_id = each.get("VersionId")
            version_id = None if version_id in (None, "", "null") else version_id
            yield _found(root, each, version_id=version_id, is_latest=bool(each.get("IsLatest")))
        if not page.get("IsTruncated"):
            return
        next_ = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            next_["VersionIdMarker"] = page["NextVersionIdMarker"]
        after = _moved(root, after, next_)


def versions_of(place: Place) -> Iterator[str]:
    """The VersionIds of one key, newest first."""
    page = place.ask_bucket("list the versions of", "list_object_versions", Prefix=place.key)
    for each in page.get("Versions", []):
        if each["Key"] == place.key:
            yield str(each["VersionId"])


def is_anything_below(root: Place) -> bool:
    """Whether a key is there at all; one request."""
    page = root.ask_bucket("list", "list_objects_v2", Prefix=root.address.prefix, MaxKeys=1)
    return bool(page.get("Contents"))


def _moved(root: Place, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    # A store that gives the same page again would be asked for ever.
    if after == before:
        raise FormatError(f"{root.uri}: the store's listing of it never ends")
    return after


def _found(root: Place, each: Any, *, version_id: str | None, is_latest: bool) -> Found:
    key, prefix = str(each["Key"]), root.address.prefix
    if not key.startswith(prefix):
        raise FormatError(f"{root.uri}: the store listed a key that is not below it")
    return Found(
        name=key[len(prefix) :],
        version_id=version_id,
        etag=str(each["ETag"]),
        size_bytes=int(each["Size"]),
        modified=each["LastModified"],
        is_latest=is_latest,
    )
