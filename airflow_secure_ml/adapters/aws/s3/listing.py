"""The text of a directory's listing: which files it has, and at which versions.

One object at a directory's root, `_asml/listing`, is what makes files a directory: it is replaced
at once, on condition of its ETag. Nothing in it is authenticated, so every length and name is
checked before it is believed; the signed statement proves the content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.manifest import MAX_FILES
from airflow_secure_ml.errors import FormatError

FOLDER = "_asml"
LISTING_NAME = f"{FOLDER}/listing"
MAX_NAME_BYTES = 1024
# Five TiB: no object is longer.
MAX_OBJECT_BYTES = 5 << 40
# MAX_FILES names of 400 bytes with their versions; read whole into memory, so not more.
MAX_LISTING_BYTES = 64 << 20

_FORMAT = "secure_ml_listing"
# Versions and ETags go into headers and queries: printable ASCII.
_VERSION = re.compile(r"[!-~]{1,1024}", re.ASCII)
_ETAG = re.compile(r"[!#-~]{1,256}", re.ASCII)
_WRITER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SINCE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_REFUSED = re.compile(r"[\x00-\x1f\x7f*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One version of one file.

    Attributes:
        version: Its VersionId; None: the bucket keeps none, and `etag` alone tells it.
        etag: Its ETag, without quotes.
        size_bytes: Its length.
    """

    version: str | None
    etag: str
    size_bytes: int

    def __post_init__(self) -> None:
        if self.version is not None and not _VERSION.fullmatch(self.version):
            raise FormatError(f"listing: {self.version[:80]!r} is no version of an object")
        if not _ETAG.fullmatch(self.etag):
            raise FormatError(f"listing: {self.etag[:80]!r} is no ETag")
        if not 0 <= self.size_bytes <= MAX_OBJECT_BYTES:
            raise FormatError("listing: a length that no object has")


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Who is building the directory's next state.

    Attributes:
        id: The writer's own, 32 hex digits; its files carry it as metadata.
        since: When it began, UTC to the second; for people, nothing is decided by it.
    """

    id: str
    since: str

    def __post_init__(self) -> None:
        if not (_WRITER.fullmatch(self.id) and _SINCE.fullmatch(self.since)):
            raise FormatError("listing: 'writing' is not a writer's id and the time it began")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One state of a directory.

    Attributes:
        files: Relative name to version; None: there is no directory (yet, or any more).
        writing: Who is building the next state; None: nobody.
    """

    files: Mapping[str, ListedFile] | None
    writing: Writing | None = None

    def encode(self) -> bytes:
        """The one text of this state.

        Raises:
            FormatError: Names that no directory has together, too many, or too long.
        """
        if self.files is not None:
            check_names(self.files)
        data = self._text().encode()
        if len(data) > MAX_LISTING_BYTES:
            raise FormatError(
                f"listing: {len(data)} bytes, at most {MAX_LISTING_BYTES} are allowed; "
                "make several directories"
            )
        return data

    def _text(self) -> str:
        files = None
        if self.files is not None:
            files = {
                name: {"bytes": file.size_bytes, "etag": file.etag, "version": file.version}
                for name, file in self.files.items()
            }
        writing = self.writing and {"id": self.writing.id, "since": self.writing.since}
        record = {"files": files, _FORMAT: 1, "writing": writing}
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse(data: bytes) -> Listing:
    """Read a listing's text.

    Raises:
        FormatError: Anything but what `Listing.encode` writes, byte for byte.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise FormatError(f"listing: more than {MAX_LISTING_BYTES} bytes")
    try:
        record = json.loads(data.decode())
    # A number of thousands of digits is a ValueError, brackets without end a RecursionError.
    except (ValueError, RecursionError) as error:
        raise FormatError("listing: not the text of one") from error
    version = record.get(_FORMAT) if isinstance(record, dict) else None
    if type(version) is int and version > 1:
        raise FormatError(
            f"listing: version {str(version)[:20]}, this release reads 1; upgrade airflow-secure-ml"
        )
    try:
        found = Listing(files=_files(record), writing=_writing(record))
        # One text only: white space, a key twice, or one more than these would be lost unseen.
        is_exact = found.encode() == data
    except (AttributeError, KeyError, TypeError, UnicodeEncodeError) as error:
        raise FormatError("listing: not the members that one has") from error
    if not is_exact:
        raise FormatError("listing: not in its one form; it was written by something else")
    return found


def _files(record: dict[str, Any]) -> dict[str, ListedFile] | None:
    files = record["files"]
    if files is None:
        return None
    if len(files) > MAX_FILES:
        raise FormatError(f"listing: more than {MAX_FILES} files")
    return {
        name: ListedFile(version=_text(each["version"]), etag=each["etag"], size_bytes=_int(each))
        for name, each in files.items()
    }


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise FormatError("listing: a version that is no text")
    return value


def _int(each: dict[str, Any]) -> int:
    size_bytes = each["bytes"]
    if type(size_bytes) is not int:
        raise FormatError("listing: a length that is no whole number")
    return size_bytes


def _writing(record: dict[str, Any]) -> Writing | None:
    writing = record["writing"]
    return None if writing is None else Writing(id=writing["id"], since=writing["since"])


def check_names(names: Iterable[str]) -> None:
    """Return if a directory on any file system could have these files together.

    Raises:
        FormatError: A name that leads elsewhere, two that differ only in case, a file that is a
            folder too, or more than `MAX_FILES`.
    """
    known = Names(max_files=MAX_FILES)
    for name in names:
        known.add(name)


class Names:
    """The names of one directory, each checked against those before it.

    Args:
        max_files: How many there may be; None: any number.
    """

    def __init__(self, *, max_files: int | None = MAX_FILES) -> None:
        self._max_files = max_files
        self._folded: dict[str, str] = {}
        self._folders: set[str] = set()
        self._files: set[str] = set()

    def add(self, name: str) -> None:
        """Take one more name, or the same again.

        Raises:
            FormatError: As `check_names`.
        """
        parts = _parts(name)
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end])
            other = self._folded.setdefault(part.casefold(), part)
            if other != part:
                raise FormatError(
                    f"{part!r} and {other!r} differ only in case; rename one, or a file system "
                    "that folds case would lose it"
                )
            if end < len(parts):
                self._folders.add(part)
            if part in self._folders and (part in self._files or end == len(parts)):
                raise FormatError(f"{part!r} is a file and a folder at once; rename one")
        self._files.add(name)
        if self._max_files is not None and len(self._files) > self._max_files:
            raise FormatError(f"more than {self._max_files} files in one directory; make several")


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or _REFUSED.search(name):
        raise FormatError(
            f"{name[:200]!r}: expected a relative name such as a/b.csv, found an absolute one, an "
            "empty part, '.', '..', a glob (* ? [) or a control character"
        )
    if parts[0] == FOLDER:
        raise FormatError(f"{name[:200]!r}: names below {FOLDER}/ are kept for keys and listings")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise FormatError(f"{name[:200]!a}: not UTF-8; rename it") from error
    if length > MAX_NAME_BYTES:
        raise FormatError(f"{name[:80]!r}…: {length} bytes, at most {MAX_NAME_BYTES} are allowed")
    return parts
