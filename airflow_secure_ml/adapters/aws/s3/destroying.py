"""Remove every version of an object, and the markers that hid them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_secure_ml.adapters.aws.failures import S3, Failure, Kind
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.errors import ServiceRefusedError, ServiceUnavailableError


def destroy_versions(place: Place) -> int:
    """Remove all versions; returns how many there were, markers not counted.

    Raises:
        ServiceRefusedError: Some are locked, or the right to remove versions is missing; all
            others are gone.
    """
    count, kept = 0, []
    for version, is_marker in list(_versions(place)):
        answer = place.ask(
            "destroy a version of",
            "delete_object",
            but=(Kind.NOTHING, Kind.REFUSED),
            VersionId=version,
        )
        if isinstance(answer, Failure) and answer.kind is Kind.REFUSED:
            kept.append((version, answer.reason))
        elif not is_marker:
            count += 1
    if kept:
        version, reason = kept[0]
        raise ServiceRefusedError(
            f"{place.uri}: {len(kept)} versions stayed, the first of them {version} ({reason}); a "
            "lock or a legal hold keeps it, or the right to delete versions is missing. "
            f"{count} others are gone",
            service=S3,
            action=f"destroy {place.uri}",
            reason=reason,
            why="store_refused",
        )
    return count


def _versions(place: Place) -> Iterator[tuple[str, bool]]:
    after: dict[str, Any] = {}
    while True:
        page = place.ask_bucket(
            "list the versions of", "list_object_versions", Prefix=place.key, **after
        )
        for name, is_marker in (("Versions", False), ("DeleteMarkers", True)):
            for each in page.get(name) or []:
                if each["Key"] == place.key:
                    # A bucket without versions calls its only one null.
                    yield each.get("VersionId") or "null", is_marker
        if not page.get("IsTruncated"):
            return
        before, after = after, {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            after["VersionIdMarker"] = page["NextVersionIdMarker"]
        if after == before:
            raise ServiceUnavailableError(
                service=S3, action=f"destroy {place.uri}", reason="its listing does not go on"
            )
