"""What lies below an address: listed page by page, named, removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_secure_ml.adapters.aws.failures import S3
from airflow_secure_ml.adapters.aws.s3.listing import FOLDER, Names
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.errors import FormatError, ServiceRefusedError, ServiceUnavailableError

# What one request removes.
_BATCH = 1000


def keys_below(place: Place, *, limit: int | None = None) -> Iterator[str]:
    """The keys below an address as they are, in the store's order.

    Raises:
        ServiceUnavailableError: The store gives one page again and again.
    """
    arguments: dict[str, Any] = {"Prefix": place.address.prefix}
    if limit is not None:
        arguments["MaxKeys"] = limit
    while True:
        page = place.ask_bucket("list", "list_objects_v2", **arguments)
        for each in page.get("Contents", []):
            yield each["Key"]
        if limit is not None or not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == arguments.get("ContinuationToken"):
            raise ServiceUnavailableError(
                service=S3, action=f"list {place.uri}", reason="its listing does not go on"
            )
        arguments["ContinuationToken"] = token


def names_below(place: Place) -> list[str] | None:
    """Relative names, sorted, without `_asml/`; None: nothing is below the address.

    Raises:
        FormatError: Names that no directory could have together.
    """
    prefix, names, known = place.address.prefix, [], Names(max_files=None)
    is_anything = False
    for key in keys_below(place):
        is_anything = True
        name = key[len(prefix) :]
        # Programs that show folders make empty objects for them.
        if not name or name.endswith("/") or name.startswith(f"{FOLDER}/"):
            continue
        try:
            known.add(name)
        except FormatError as error:
            raise FormatError(f"{place.uri}: {error}") from error
        names.append(name)
    return sorted(names) if is_anything else None


def remove_below(place: Place) -> None:
    """Remove everything below an address.

    Raises:
        ServiceRefusedError: The store kept some of it.
    """
    batch: list[dict[str, str]] = []
    for key in list(keys_below(place)):
        batch.append({"Key": key})
        if len(batch) == _BATCH:
            _remove(place, batch)
            batch = []
    if batch:
        _remove(place, batch)


def _remove(place: Place, batch: list[dict[str, str]]) -> None:
    answer = place.ask_bucket(
        "remove what is below", "delete_objects", Delete={"Objects": batch, "Quiet": True}
    )
    errors = answer.get("Errors") or []
    if errors:
        raise ServiceRefusedError(
            service=S3,
            action=f"remove {place.uri}",
            reason=f"{len(errors)} objects stayed, the first because of {errors[0].get('Code')}",
            why="store_refused",
        )
