"""One state of a directory in S3: as its listing says, or a plain prefix as it is found.

A committed directory is what its listing names, at those versions, whatever else lies there. What
has no listing was not written here: it is taken as it lies, each file held to its ETag.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from airflow_secure_ml.adapters.aws.s3.listing import FOLDER, LISTING_NAME, Names
from airflow_secure_ml.adapters.aws.s3.listing_object import place_below, read_listing
from airflow_secure_ml.adapters.aws.s3.pinned import PinnedS3, changed, pin
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.prefix import Found, is_anything_below, keys_below
from airflow_secure_ml.errors import FormatError

FILES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of one file.

    Attributes:
        version_id: None: whatever has this ETag.
        etag: With quotes.
        size_bytes: Its length.
    """

    version_id: str | None
    etag: str
    size_bytes: int


def open_directory(root: Place) -> S3Directory:
    """Pin the state that a directory has now.

    Raises:
        FileNotFoundError: Nothing is there, or its listing says so.
        FormatError: A file is there, the listing is broken, or names that no directory has.
    """
    stored = read_listing(root)
    if stored is None:
        return S3Directory(root, "", plain_files(root))
    if stored.listing.files is None:
        raise FileNotFoundError(errno.ENOENT, "no directory there", root.uri)
    files = {
        name: Pin(file.version, f'"{file.etag}"', file.size_bytes)
        for name, file in stored.listing.files.items()
    }
    return S3Directory(root, stored.version, files)


def is_directory(root: Place) -> bool:
    """Whether there is a directory, by its listing or for want of one by its files."""
    if not is_anything_below(root):
        return False
    stored = read_listing(root)
    return True if stored is None else stored.listing.files is not None


def plain_files(root: Place) -> dict[str, Pin]:
    """The files below a prefix that has no listing.

    Directories with a listing of their own that lie below count as they say themselves.

    Raises:
        FileNotFoundError, FormatError: As `open_directory`.
    """
    found = list(keys_below(root))
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no directory there", root.uri)
    files = {each.name: Pin(None, each.etag, each.size_bytes) for each in named_files(root, found)}
    for name in [name for name in files if name.endswith(f"/{LISTING_NAME}")]:
        if name in files:
            _take_inner(root, name.removesuffix(f"/{LISTING_NAME}"), files)
    return files


def named_files(root: Place, found: Iterable[Found]) -> list[Found]:
    """Those that are files of a directory: no folder's marker, nothing of `_asml/` at its top.

    Raises:
        FormatError: Names that no directory on a file system has together.
    """
    names, files = Names(max_files=None), []
    is_ours = root.key.rpartition("/")[2] == FOLDER
    for each in found:
        if each.name.startswith(f"{FOLDER}/") or (is_ours and each.name == "listing"):
            continue
        if each.name.endswith("/") or not each.name:
            if each.size_bytes:
                raise FormatError(f"{root.uri}: expected files, found bytes in {each.name!r}")
            continue
        try:
            names.add(each.name)
        except FormatError as error:
            raise FormatError(f"{root.uri}: {error}") from error
        files.append(each)
    return files


def _take_inner(root: Place, folder: str, files: dict[str, Pin]) -> None:
    """Let a directory below speak for itself; its keys in `_asml/` stay as they are found."""
    inner = place_below(root, folder)
    stored = read_listing(inner)
    if stored is None:
        return
    for name in [name for name in files if name.startswith(f"{folder}/")]:
        if name == f"{folder}/{LISTING_NAME}" or not name.startswith(f"{folder}/{FOLDER}/"):
            del files[name]
    for name, file in (stored.listing.files or {}).items():
        files[f"{folder}/{name}"] = Pin(file.version, f'"{file.etag}"', file.size_bytes)


class S3Directory:
    """PinnedDirectory: names, versions and lengths that were read once.

    Args:
        root: Where it lies.
        version: Of its listing; empty for a plain prefix.
        files: What it has.
    """

    def __init__(self, root: Place, version: str, files: dict[str, Pin]) -> None:
        self._root, self._version, self._files = root, version, files
        self._names = sorted(files)

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self._root.uri

    @property
    def version(self) -> str:
        """The listing's version; empty for a plain prefix, which has none as a whole."""
        return self._version

    @property
    def files_at_once(self) -> int:
        """Several: each waits for the store most of the time."""
        return FILES_AT_ONCE

    def names(self) -> Sequence[str]:
        """Relative names of its files, sorted."""
        return self._names

    def open(self, relative: str) -> PinnedS3:
        """Pin a file at the version that was listed."""
        file = self._listed(relative)
        place = place_below(self._root, relative)
        pinned = pin(place, version_id=file.version_id, etag=file.etag)
        # A store may pass over a condition that it does not know.
        if (pinned.etag, pinned.size_bytes) != (file.etag, file.size_bytes):
            pinned.__exit__(None, None, None)
            raise changed(place.uri, "another one than was listed lies there")
        return pinned

    def size_of(self, relative: str) -> int:
        """Its length, as listed."""
        return self._listed(relative).size_bytes

    def _listed(self, relative: str) -> Pin:
        file = self._files.get(relative)
        if file is None:
            raise FormatError(f"{self.uri}: expected one of its files, found {relative!r}")
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held in between requests."""
