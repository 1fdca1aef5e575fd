"""Remove from a directory what no listing names: an interrupted writer's files, a removed one's.

A file is a writer's leftover only by that writer's id in its own metadata, so nothing of another's
is touched, however late a sweep comes. A version that a listing names is never removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3.listing import LISTING_NAME, ListedFile, Listing
from airflow_secure_ml.adapters.aws.s3.listing_object import (
    fenced,
    place_below,
    put_listing,
    read_listing,
)
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.prefix import (
    Found,
    is_anything_below,
    keys_below,
    versions_below,
)
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError

log = logging.getLogger(__name__)

WRITER = "asml-directory"
"""The metadata entry that names the writer of a directory's file."""

_T = TypeVar("_T")
_THREADS = 8
_KEPT = (Kind.NOTHING, Kind.CHANGED, Kind.REFUSED)


def sweep(
    root: Place,
    writer: str,
    *,
    since: datetime,
    named: Mapping[str, ListedFile] | None,
    has_versions: bool,
) -> None:
    """Remove what one writer, which will never commit, uploaded.

    Args:
        root: The directory.
        writer: Its id.
        since: When the store got the listing that says it writes: it uploaded nothing before.
        named: What the listing names.
        has_versions: Whether the bucket keeps versions.

    Raises:
        ServiceError: The store did not answer; what it refuses to remove stays.
    """
    # Seconds are what a listing gives: what was uploaded in the very same one counts.
    begin = since.replace(microsecond=0)
    candidates = [
        each
        for each in (versions_below(root) if has_versions else keys_below(root))
        if each.modified >= begin and not _is_named(each, named or {})
    ]
    _each(lambda found: _remove_if_of(root, found, writer), candidates)


def _is_named(found: Found, named: Mapping[str, ListedFile]) -> bool:
    if found.name == LISTING_NAME:
        return True
    file = named.get(found.name)
    if file is None:
        return False
    return file.version == found.version_id if file.version else f'"{file.etag}"' == found.etag


def _remove_if_of(root: Place, found: Found, writer: str) -> None:
    place = place_below(root, found.name)
    which = {"VersionId": found.version_id} if found.version_id else {"IfMatch": found.etag}
    answer = place.ask("look at", "head_object", but=_KEPT, **which)
    if isinstance(answer, Failure) or (answer.get("Metadata") or {}).get(WRITER) != writer:
        return
    remove_version(place, found.version_id, found.etag)


def remove_version(place: Place, version_id: str | None, etag: str) -> None:
    """Remove one version, or the object if it still has this ETag; a refusal is a warning."""
    which = {"VersionId": version_id} if version_id else {"IfMatch": etag}
    answer = place.ask("remove", "delete_object", but=_KEPT, **which)
    if isinstance(answer, Failure) and answer.kind is Kind.REFUSED:
        log.warning(
            "%s: what an unfinished write left stays (%s); nobody reads it",
            place.uri,
            answer.reason,
        )


def remove_versions(root: Place, uploaded: Mapping[str, Iterable[ListedFile]]) -> None:
    """Remove what a writer knows to have uploaded itself, several at once."""
    known = [(name, file) for name, files in uploaded.items() for file in files]
    _each(
        lambda one: remove_version(place_below(root, one[0]), one[1].version, f'"{one[1].etag}"'),
        known,
    )


def hide(root: Place, names: Iterable[str]) -> None:
    """Put a mark of removal on keys of a versioned bucket; their versions stay."""
    _each(lambda name: place_below(root, name).ask("remove", "delete_object", but=_KEPT), names)


def remove_directory(root: Place) -> None:
    """Remove a directory: for readers at once, its files after that.

    Raises:
        PolicyError: Somebody began to write it meanwhile.
        ServiceRefusedError: The store kept some of it.
    """
    if not is_anything_below(root):
        return
    stored = read_listing(root)
    if stored is not None:
        stored = put_listing(root, Listing(files=None), instead_of=stored.etag, is_final=False)
        if stored is None:
            raise fenced(root.uri)
    found = [each for each in keys_below(root) if each.name != LISTING_NAME]
    if stored is not None:
        # Listed before anybody else began: so nothing of a later writer is among them.
        now = read_listing(root)
        if now is None or now.etag != stored.etag:
            raise fenced(root.uri)
    kept = [failure for failure in _each(lambda one: _delete(root, one), found) if failure]
    if kept:
        raise ServiceRefusedError(
            service="s3",
            action=f"remove {root.uri}",
            reason=f"{len(kept)} objects stayed, the first because of {kept[0].reason}",
            why="store_refused",
        )
    if stored is not None:
        listing = place_below(root, LISTING_NAME)
        listing.ask("remove", "delete_object", but=_KEPT, IfMatch=stored.etag)


def _delete(root: Place, found: Found) -> Failure | None:
    place = place_below(root, found.name)
    answer: Any = place.ask("remove", "delete_object", but=_KEPT, IfMatch=found.etag)
    is_refused = isinstance(answer, Failure) and answer.kind is Kind.REFUSED
    return answer if is_refused else None


def _each(act: Callable[[Any], _T], items: Iterable[Any]) -> list[_T]:
    items = list(items)
    if len(items) <= 1:
        return [act(item) for item in items]
    with ThreadPoolExecutor(min(_THREADS, len(items)), thread_name_prefix="s3-sweep") as pool:
        return list(pool.map(act, items))


def quietly(act: Callable[[], None], uri: str) -> None:
    """Clean up after what is settled already: what fails is left for the next writer."""
    try:
        act()
    except SecureMLError as error:
        log.warning("%s: what is left over could not be removed: %s", uri, error)
