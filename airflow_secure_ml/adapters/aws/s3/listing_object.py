"""The listing as an object: read whole, replaced only as it was read.

A conditional request is what makes one writer of many the one that changes a directory.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3.address import S3Address
from airflow_secure_ml.adapters.aws.s3.checksums import crc_of, to_text
from airflow_secure_ml.adapters.aws.s3.listing import (
    LISTING_NAME,
    MAX_LISTING_BYTES,
    Listing,
    parse,
)
from airflow_secure_ml.adapters.aws.s3.pinned import pin, version_of
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.prefix import versions_of
from airflow_secure_ml.adapters.aws.s3.terms import make_terms
from airflow_secure_ml.errors import FormatError, PolicyError, ServiceRefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredListing:
    """A listing as it lies there.

    Attributes:
        listing: What it says.
        etag: Its ETag, with quotes: the condition of what replaces it.
        version_id: Its VersionId; None: the bucket keeps no versions.
        version: What the port calls its version.
        modified: When the store got it, UTC, by the store's clock.
    """

    listing: Listing
    etag: str
    version_id: str | None
    version: str
    modified: datetime


def place_below(root: Place, name: str) -> Place:
    """Where a file of a directory lies."""
    address = S3Address(bucket=root.address.bucket, key=root.address.prefix + name)
    return Place(bucket=root.bucket, address=address)


def read_listing(root: Place) -> StoredListing | None:
    """A directory's listing; None: there is none.

    Raises:
        FormatError: What lies there is none, or too long to be one.
        ServiceError: The store refused, or did not answer.
    """
    try:
        return _read(place_below(root, LISTING_NAME), None)
    except FileNotFoundError:
        return None


def _read(place: Place, version_id: str | None) -> StoredListing:
    with pin(place, version_id=version_id) as pinned:
        if pinned.size_bytes > MAX_LISTING_BYTES:
            raise FormatError(f"{place.uri}: {pinned.size_bytes} bytes are no listing")
        data = pinned.read_at(0, pinned.size_bytes)
        pinned.check_unchanged()
    try:
        listing = parse(data)
    except FormatError as error:
        raise FormatError(
            f"{place.uri}: {error}. Its directory cannot be read; write it anew, or remove it"
        ) from error
    return StoredListing(
        listing=listing,
        etag=pinned.etag,
        version_id=pinned.version_id,
        version=pinned.version,
        modified=pinned.answer["LastModified"],
    )


def put_listing(
    root: Place, listing: Listing, *, instead_of: str | None, is_final: bool
) -> StoredListing | None:
    """Put a listing where another one is, or none; None: something else is there by now.

    Args:
        root: The directory.
        listing: What it is to say.
        instead_of: The ETag of the one that it replaces; None: there is none.
        is_final: Whether it is a state for readers, to be locked as its files are.
    """
    place, data = place_below(root, LISTING_NAME), listing.encode()
    asked = root.bucket.asked
    if not is_final:
        asked = replace(asked, object_lock="", object_lock_days=0, legal_hold=False)
    now = datetime.now(UTC)
    terms = make_terms(asked, token=secrets.token_hex(16), now=now)
    condition = {"IfNoneMatch": "*"} if instead_of is None else {"IfMatch": instead_of}
    answer = place.ask(
        "write", "put_object", but=(Kind.CHANGED, Kind.NOTHING), Body=data,
        ContentType="application/json", ChecksumCRC64NVME=to_text(crc_of(data)),
        **condition, **terms.headers,
    )  # fmt: skip
    if isinstance(answer, Failure):
        return _ours_after_all(root, listing, instead_of)
    version_id, version = version_of(answer)
    try:
        terms.check_encrypted(answer, place.uri)
    except ServiceRefusedError:
        which = {"VersionId": version_id} if version_id else {"IfMatch": answer["ETag"]}
        # Without versions none is behind it, and readers find in it what they found before.
        if version_id or instead_of is None:
            place.ask("take back", "delete_object", but=(Kind.NOTHING, Kind.CHANGED), **which)
        raise
    return StoredListing(
        listing=listing, etag=answer["ETag"], version_id=version_id, version=version, modified=now
    )


def _ours_after_all(root: Place, listing: Listing, instead_of: str | None) -> StoredListing | None:
    """What the first of two tries did, whose answer was lost: another writer may have followed."""
    found = read_listing(root)
    if found is None or found.listing == listing:
        return found
    place = place_below(root, LISTING_NAME)
    for version_id in versions_of(place) if found.version_id else ():
        try:
            earlier = _read(place, version_id)
        except FileNotFoundError:
            continue
        if earlier.listing == listing:
            return earlier
        if earlier.etag == instead_of:
            break
    return None


def taken(uri: str) -> PolicyError:
    """The refusal to write where something is."""
    return PolicyError(
        f"{uri}: expected nothing there, found something; it stays as it is. "
        "Remove it, write elsewhere, or ask for it to be replaced",
        why="address_taken",
    )


def fenced(uri: str) -> PolicyError:
    """The refusal of a writer that another one followed."""
    return PolicyError(
        f"{uri}: expected to be its only writer, found that another one began or finished since; "
        "what was written here is not published. Let one task write it at a time",
        why="address_taken",
    )
