"""The ObjectStore port over buckets in S3, or in what speaks as S3 does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3 import address, pinned_directory
from airflow_secure_ml.adapters.aws.s3.destroying import destroy_versions
from airflow_secure_ml.adapters.aws.s3.directory_writer import S3DirectoryWriter
from airflow_secure_ml.adapters.aws.s3.pinned import PinnedS3, pin
from airflow_secure_ml.adapters.aws.s3.pinned_directory import S3Directory, is_directory
from airflow_secure_ml.adapters.aws.s3.place import Bucket, Place
from airflow_secure_ml.adapters.aws.s3.prefix import versions_below
from airflow_secure_ml.adapters.aws.s3.sweeping import remove_directory
from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.adapters.aws.s3.writer import S3Writer
from airflow_secure_ml.core.ports import ObjectInfo
from airflow_secure_ml.errors import ConfigurationError, FormatError


class S3Objects:
    """A store that knows which client reaches which bucket; safe from many threads."""

    def __init__(
        self,
        client_of: Callable[[str], Any],
        *,
        asked_of: Callable[[str], Asked] = lambda bucket: Asked(),
        use_connection: Callable[[str, str], None] | None = None,
    ) -> None:
        """Take what reaches buckets; no request is made.

        Args:
            client_of: The boto3 client for a bucket.
            asked_of: What that bucket's connection asks of all that is written.
            use_connection: Told the bucket and the connection that an address names; None: an
                address may not name one.
        """
        self._client_of, self._asked_of = client_of, asked_of
        self._use_connection = use_connection
        # No lock: a forked child would find it as another thread of its parent held it.
        self._buckets: dict[str, Bucket] = {}

    def canonical(self, text: str) -> str:
        """The one address: `s3://bucket/key`, without a connection."""
        found = address.parse(text)
        if found.conn_id:
            if self._use_connection is None:
                raise ConfigurationError(
                    f"{found.uri}: expected no connection in the address, found {found.conn_id}; "
                    "here the client is given"
                )
            self._use_connection(found.bucket, found.conn_id)
        return found.uri

    def child(self, uri: str, relative: str) -> str:
        """The canonical address of a name that `walk` gave."""
        return address.child(uri, relative)

    def place(self, uri: str) -> Place:
        """An address with its bucket."""
        found = address.split(uri)
        asked = self._asked_of(found.bucket)
        bucket = self._buckets.get(found.bucket)
        if bucket is None or bucket.asked != asked:
            bucket = Bucket(client_of=lambda: self._client_of(found.bucket), asked=asked)
            self._buckets[found.bucket] = bucket
        return Place(bucket=bucket, address=found)

    def info(self, uri: str) -> ObjectInfo | None:
        """What lies at the address; None: nothing. An object goes before what lies below it."""
        place = self.place(uri)
        if place.key:
            answer = place.ask("look at", "head_object", but=(Kind.NOTHING,))
            if not isinstance(answer, Failure):
                size_bytes = int(answer["ContentLength"])
                return ObjectInfo(uri=uri, is_directory=False, size_bytes=size_bytes)
        if is_directory(place):
            return ObjectInfo(uri=uri, is_directory=True, size_bytes=0)
        return None

    def open(self, uri: str) -> PinnedS3:
        """Pin the newest version of an object."""
        place = self._object_place(uri)
        try:
            return pin(place)
        except FileNotFoundError:
            if is_directory(place):
                raise FormatError(f"{uri}: expected a file, found a directory") from None
            raise

    def create(self, uri: str) -> S3Writer:
        """Begin an object; what killed writers of this machine left for it is aborted."""
        place = self._object_place(uri)
        return S3Writer(place, is_directory=lambda: is_directory(place))

    def create_directory(self, uri: str) -> S3DirectoryWriter:
        """Begin a directory, taking it over from whoever writes it; leftovers are swept."""
        return S3DirectoryWriter(self.place(uri))

    def open_directory(self, uri: str) -> S3Directory:
        """Pin the files that a directory's listing names, or those of a plain prefix."""
        place = self.place(uri)
        try:
            return pinned_directory.open_directory(place)
        except FileNotFoundError:
            if self._is_object(place):
                raise FormatError(f"{uri}: expected a directory, found a file") from None
            raise

    def walk(self, uri: str) -> Iterator[str]:
        """Relative names of the files below a directory, sorted; `_asml/` at its top is skipped.

        Everything is listed before the first name is given.
        """
        return iter(self.open_directory(uri).names())

    def walk_removed(self, uri: str) -> Iterator[str]:
        """Relative names of keys below that only a marker hides."""
        newest: dict[str, bool] = {}
        for each in versions_below(self.place(uri)):
            newest[each.name] = newest.get(each.name, False) or each.is_latest
        return iter(sorted(name for name, is_there in newest.items() if not is_there))

    def delete(self, uri: str) -> None:
        """Remove an object, or a directory with all below it; a versioned bucket keeps versions."""
        place = self._object_place(uri)
        # Not removed unseen: a versioned bucket would get a marker for what never was.
        if self._is_object(place):
            place.ask("remove", "delete_object", but=(Kind.NOTHING,))
        remove_directory(place)

    def _is_object(self, place: Place) -> bool:
        answer = place.key and place.ask("look at", "head_object", but=(Kind.NOTHING,))
        return bool(answer) and not isinstance(answer, Failure)

    def destroy(self, uri: str) -> int:
        """Remove an object with every version of it; returns how many held bytes."""
        return destroy_versions(self._object_place(uri))

    def _object_place(self, uri: str) -> Place:
        place = self.place(uri)
        if not place.key:
            raise FormatError(f"{uri}: expected the address of an object, found a whole bucket")
        return place
