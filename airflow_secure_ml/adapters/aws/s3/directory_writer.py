"""A directory on its way: files go to their own keys, one replaced listing publishes them all.

Whoever begins last is the writer: the listing is changed at the beginning and, on condition that
nobody changed it since, at the end. A bucket without versions takes a first write only, since
readers of a directory that is there would lose its files.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3.listing import (
    FOLDER,
    LISTING_NAME,
    ListedFile,
    Listing,
    Names,
    Writing,
)
from airflow_secure_ml.adapters.aws.s3.listing_object import (
    StoredListing,
    fenced,
    place_below,
    put_listing,
    read_listing,
    taken,
)
from airflow_secure_ml.adapters.aws.s3.pinned_directory import FILES_AT_ONCE, named_files
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.prefix import keys_below, versions_below
from airflow_secure_ml.adapters.aws.s3.sweeping import (
    WRITER,
    hide,
    quietly,
    remove_version,
    remove_versions,
    sweep,
)
from airflow_secure_ml.adapters.aws.s3.writer import S3Writer
from airflow_secure_ml.core.aborting import Aborting
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

_TRIES = 16


class S3DirectoryWriter(Aborting):
    """DirectoryWriter: what it begins, its own `commit` or the next writer ends."""

    def __init__(self, root: Place) -> None:
        """Take the directory over from whoever wrote it before; one request or two."""
        self._root, self.id = root, secrets.token_hex(16)
        self._guard = threading.Lock()
        self._names = Names()
        self._files: dict[str, ListedFile] = {}
        self._uploaded: dict[str, list[ListedFile]] = {}
        self._done = False
        self._pid = os.getpid()
        self._taken_from: str | None = None
        self._begin()

    @property
    def files_at_once(self) -> int:
        """Several: each waits for the store most of the time."""
        return FILES_AT_ONCE

    @property
    def has_versions(self) -> bool:
        """Whether the bucket keeps versions: the store said so of the listing."""
        return self._begun.version_id is not None

    def _begin(self) -> None:
        writing = Writing(id=self.id, since=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        for _ in range(_TRIES):
            found = read_listing(self._root)
            self._before = _plain_state(self._root) if found is None else found.listing.files
            self._had_listing = found is not None
            begun = put_listing(
                self._root,
                Listing(files=self._before, writing=writing),
                instead_of=None if found is None else found.etag,
                is_final=False,
            )
            if begun is not None:
                self._begun = begun
                self._take_over(found)
                return
        raise ServiceUnavailableError(
            service="s3",
            action=f"write {self._root.uri}",
            reason="too many writers begin at once, or a mark of a removal is taken for a listing; "
            "try again later, or remove all versions of it",
        )

    def _take_over(self, found: StoredListing | None) -> None:
        if found is None or found.listing.writing is None:
            return
        self._taken_from = found.listing.writing.id
        try:
            sweep(
                self._root,
                self._taken_from,
                since=found.modified,
                named=self._before,
                has_versions=self.has_versions,
            )
        except BaseException:
            self.abort()
            raise

    def create(self, relative: str) -> FileBelow:
        """A writer for one file below the directory. Safe from many threads.

        Raises:
            FormatError: No relative name, or one that differs only in case from another.
            ConfigurationError: The bucket keeps no versions, and something is there.
        """
        self._require_open("written")
        if not self.has_versions and self._before is not None:
            raise self._no_versions()
        if not _is_key(relative):
            with self._guard:
                self._names.add(relative)
        return FileBelow(self, place_below(self._root, relative), relative)

    def publish_file(self, relative: str, writer: S3Writer, *, replace: bool) -> str:
        """Upload a file that is whole, and count it as part of the directory."""
        self._require_open("written")
        with self._guard:
            earlier = self._files.get(relative)
        if earlier is not None and not replace:
            raise taken(f"{self._root.uri}/{relative}")
        if not self.has_versions:
            self._make_room(relative, earlier)
        writer.commit(replace=self.has_versions)
        stored = writer.stored
        assert stored is not None
        file = ListedFile(
            version=stored.version_id, etag=stored.etag.strip('"'), size_bytes=stored.size_bytes
        )
        with self._guard:
            self._uploaded.setdefault(relative, []).append(file)
            self._files[relative] = file
        return stored.version

    def _make_room(self, relative: str, earlier: ListedFile | None) -> None:
        """Without versions no upload replaces anything: remove what may be replaced before it."""
        place = place_below(self._root, relative)
        if earlier is not None:
            return remove_version(place, None, f'"{earlier.etag}"')
        if self._taken_from is None:
            return None
        # What a writer that was overtaken uploads late; it may not, but it cannot know yet.
        answer = place.ask("look at", "head_object", but=(Kind.NOTHING,))
        if isinstance(answer, Failure) or WRITER not in (answer.get("Metadata") or {}):
            return None
        self._require_ours()
        return remove_version(place, None, answer["ETag"])

    def commit(self, *, replace: bool) -> str:
        """Publish the directory by one conditional request; returns the listing's version."""
        self._require_open("committed")
        try:
            there = self._root.ask("look at", "head_object", but=(Kind.NOTHING,))
            has_object = not isinstance(there, Failure)
            self._check_free(has_object=has_object, replace=replace)
            if not self.has_versions:
                self._require_all_there()
        except BaseException:
            self.abort()
            raise
        listed = {name: file for name, file in self._files.items() if not _is_key(name)}
        version = self._publish(Listing(files=listed))
        quietly(lambda: self._tidy(listed, has_object=has_object), self._root.uri)
        return version

    def _publish(self, listing: Listing) -> str:
        # From here on only a clear no lets anything be taken back: whoever was interrupted, or got
        # no answer, may have published it, and the next writer finds that out.
        self._done = True
        try:
            done = put_listing(self._root, listing, instead_of=self._begun.etag, is_final=True)
        except (ServiceRefusedError, FormatError):
            quietly(self._take_back, self._root.uri)
            raise
        if done is None:
            quietly(self._take_back, self._root.uri)
            raise fenced(self._root.uri)
        return done.version

    def _check_free(self, *, has_object: bool, replace: bool) -> None:
        if self._before is None and not has_object:
            return
        if not replace:
            raise taken(self._root.uri)
        if not self.has_versions:
            raise self._no_versions()

    def _require_all_there(self) -> None:
        """Without versions a file may have been removed or replaced since it was uploaded."""
        there = {each.name: each.etag for each in keys_below(self._root)}
        for name, file in self._files.items():
            if there.get(name) != f'"{file.etag}"':
                self._require_ours()
                raise IntegrityError(
                    f"{self._root.uri}: expected {name!r} as it was uploaded, found it changed or "
                    "gone; somebody else writes there. Write again, alone"
                )

    def _tidy(self, listed: Mapping[str, ListedFile], *, has_object: bool) -> None:
        """Let programs that know no listing see the new state too, as far as that is possible."""
        if has_object:
            self._root.ask("remove", "delete_object", but=(Kind.NOTHING,))
        hide(self._root, [name for name in self._before or {} if name not in listed])
        superseded = {
            name: [file for file in files if file != self._files[name]]
            for name, files in self._uploaded.items()
        }
        if self.has_versions:
            remove_versions(self._root, superseded)

    def abort(self) -> None:
        """Take back what was uploaded, as far as it is this writer's; twice does nothing."""
        if self._done or self._pid != os.getpid():
            return
        self._done = True
        quietly(self._take_back, self._root.uri)

    def _take_back(self) -> None:
        # Without versions a name may be another writer's by now, with the very same bytes.
        if self.has_versions or self._is_ours():
            remove_versions(self._root, self._uploaded)
        place = place_below(self._root, LISTING_NAME)
        try:
            # Not where somebody was overtaken: to them it would be as if nobody had begun, too, and
            # they would publish what was swept.
            if self.has_versions and self._taken_from is None:
                # The version before is the newest then, as if nobody had begun.
                place.ask(
                    "remove", "delete_object", but=(Kind.NOTHING,), VersionId=self._begun.version_id
                )
                return
            if not self._had_listing:
                place.ask(
                    "remove",
                    "delete_object",
                    but=(Kind.NOTHING, Kind.CHANGED),
                    IfMatch=self._begun.etag,
                )
                return
        except ServiceRefusedError:
            pass  # No right to remove versions: said by a newer one instead.
        before = Listing(files=self._before)
        put_listing(self._root, before, instead_of=self._begun.etag, is_final=False)

    def _is_ours(self) -> bool:
        found = read_listing(self._root)
        return found is not None and found.etag == self._begun.etag

    def _require_ours(self) -> None:
        if not self._is_ours():
            raise fenced(self._root.uri)

    def _no_versions(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self._root.uri}: expected a bucket with versioning, found one without, where a "
            "directory cannot be replaced at once; the old one stays. Switch versioning on, "
            "remove it first, or write elsewhere"
        )

    def _require_open(self, verb: str) -> None:
        if self._done:
            raise ValueError(f"{self._root.uri}: {verb} after commit or abort")
        if self._pid != os.getpid():
            raise ValueError(f"{self._root.uri}: {verb} by a forked child of its writer")


class FileBelow(Aborting):
    """ObjectWriter for one file of a directory; its bytes are an S3Writer's."""

    def __init__(self, directory: S3DirectoryWriter, place: Place, relative: str) -> None:
        self._directory, self._relative = directory, relative
        self._writer = S3Writer(place, metadata={WRITER: directory.id})

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`, whole."""
        self._writer.write_at(offset, data)

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Upload the file; it is visible once the directory is."""
        if if_version is not None:
            raise ValueError(f"{self._relative}: nothing is there before its directory is")
        try:
            return self._directory.publish_file(self._relative, self._writer, replace=replace)
        finally:
            self._writer.abort()

    def abort(self) -> None:
        """Throw the bytes away; after a commit it does nothing."""
        self._writer.abort()


def _is_key(relative: str) -> bool:
    """Whether it is a data-set key's header, which no listing names and rotation replaces.

    Raises:
        FormatError: Another name below `_asml/`.
    """
    if not relative.startswith(f"{FOLDER}/"):
        return False
    name = relative.removeprefix(f"{FOLDER}/")
    if not name or "/" in name or name in ("listing", ".", ".."):
        raise FormatError(f"{relative!r}: expected a key's name below {FOLDER}/")
    return True


def _plain_state(root: Place) -> dict[str, ListedFile] | None:
    """What lies below a prefix without a listing, so that its readers keep it while we write."""
    found = [each for each in versions_below(root) if each.is_latest]
    files = {
        each.name: ListedFile(
            version=each.version_id, etag=each.etag.strip('"'), size_bytes=each.size_bytes
        )
        for each in named_files(root, found)
    }
    return files or None
