"""Which files an artifact consists of, and what is in them: the thing that a signature covers.

A sealed file stands here with its core_id and the digest of its payload, so a rewrap of its header
changes nothing. `Manifest.digest` is *the* digest of an artifact in References and events.
Reading files is `services.manifests`' part.

Source: API, Signatures; SEALED_FILE_FORMAT, What opening does not prove.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from airflow_secure_ml.core.canonical import MAX_INTEGER, Limits, decode
from airflow_secure_ml.core.digest import Digest, digest_of
from airflow_secure_ml.errors import MAX_NAMES, FormatError, ManifestMismatchError

MAX_FILES = 100_000
MAX_PATH_BYTES = 4096
# Far above what MAX_FILES ordinary paths need, and still no gigabytes.
MAX_MANIFEST_BYTES = 48 << 20
_LIMITS = Limits(max_bytes=MAX_MANIFEST_BYTES, max_depth=3)
_START = b'{"files":['
_JSON = json.JSONEncoder(ensure_ascii=False)
_CORE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a file's name, length and header tell without reading its content.

    Attributes:
        path: Relative to the artifact, `a/b.csv`; empty for an artifact of one file.
        size_bytes: Length of the payload: from header_len to the end, or of a whole plain file.
        core_id: Hex core_id of a sealed file; None for a plain one.
    """

    path: str
    size_bytes: int
    core_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a manifest.

    Attributes:
        path: Relative to the artifact, `a/b.csv`; empty for an artifact of one file.
        size_bytes: Length of the payload: from header_len to the end, or of a whole plain file.
        digest: Digest of these bytes.
        core_id: Hex core_id of a sealed file; None for a plain one.
    """

    path: str
    size_bytes: int
    digest: Digest
    core_id: str | None = None

    def __post_init__(self) -> None:
        _check_path(self.path)
        if not 0 <= self.size_bytes <= MAX_INTEGER:
            raise FormatError(f"manifest: {self.path!r}: a length of {self.size_bytes} bytes")
        if self.core_id is not None and not _CORE_ID.fullmatch(self.core_id):
            raise FormatError(f"manifest: {self.path!r}: core_id is not 64 hex digits")

    @property
    def outline(self) -> Outline:
        """This entry without its digest."""
        return Outline(path=self.path, size_bytes=self.size_bytes, core_id=self.core_id)

    @property
    def canonical(self) -> bytes:
        """`as_record` in its canonical form."""
        # Not through `encode`, whose checks an entry has passed: a manifest has thousands of them.
        core = "" if self.core_id is None else f'"core":"{self.core_id}",'
        path = _JSON.encode(self.path)
        text = f'{{"bytes":{self.size_bytes},{core}"digest":"{self.digest}","path":{path}}}'
        return text.encode()

    def as_record(self) -> dict[str, Any]:
        """The entry as it stands in canonical JSON."""
        record = {"path": self.path, "bytes": self.size_bytes, "digest": str(self.digest)}
        return record if self.core_id is None else {**record, "core": self.core_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """What a statement says of a manifest that lies beside it instead of standing in it.

    Attributes:
        digest: The manifest's digest, `sha256:<hex>`.
        length_bytes: Length of the manifest's canonical form.
        files: How many files it has.
        size_bytes: Length of all payloads together.
        algorithm: The algorithm of the files' digests.
        is_sealed: Whether every file is sealed.
    """

    digest: str
    length_bytes: int
    files: int
    size_bytes: int
    algorithm: str
    is_sealed: bool

    def __post_init__(self) -> None:
        if Digest.parse(self.digest).algorithm != "sha256":
            raise FormatError("manifest: its own digest is always sha256")
        Digest.parse(f"{self.algorithm}:{'0' * 64}")
        counts = (self.length_bytes, self.files, self.size_bytes)
        if any(isinstance(each, bool) for each in counts):
            raise FormatError("manifest: a count that is no number")
        # The length bounds what a reader takes into memory of a file that anyone may have written.
        if not 1 <= self.length_bytes <= MAX_MANIFEST_BYTES or not 1 <= self.files <= MAX_FILES:
            raise FormatError(
                f"manifest: {self.files} files in {self.length_bytes} bytes, expected 1 to "
                f"{MAX_FILES} in at most {MAX_MANIFEST_BYTES}"
            )
        if not 0 <= self.size_bytes <= MAX_INTEGER:
            raise FormatError(f"manifest: a length of {self.size_bytes} bytes")

    def as_record(self) -> dict[str, Any]:
        """The commitment as it stands in canonical JSON; `is_sealed` stands elsewhere."""
        return {
            "digest": self.digest,
            "length": self.length_bytes,
            "files": self.files,
            "bytes": self.size_bytes,
            "algorithm": self.algorithm,
        }

    @classmethod
    def from_record(cls, record: object, *, is_sealed: bool) -> Self:
        """Read what `as_record` gave; FormatError for anything else."""
        match record:
            case {
                "digest": str(digest),
                "length": int(length_bytes),
                "files": int(files),
                "bytes": int(size_bytes),
                "algorithm": str(algorithm),
                **rest,
            } if not rest:
                return cls(
                    digest=digest,
                    length_bytes=length_bytes,
                    files=files,
                    size_bytes=size_bytes,
                    algorithm=algorithm,
                    is_sealed=is_sealed,
                )
        raise FormatError("manifest: expected digest, length, files, bytes and algorithm; no more")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All files of one artifact, sorted by path; `Manifest.of` sorts.

    Attributes:
        entries: At least one; a single file has the path ''.
    """

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.entries]
        if not 1 <= len(paths) <= MAX_FILES:
            raise FormatError(f"manifest: {len(paths)} files, expected 1 to {MAX_FILES}")
        if len({entry.digest.algorithm for entry in self.entries}) > 1:
            raise FormatError("manifest: digests of two algorithms; take all with one")
        if "" in paths and len(paths) > 1:
            raise FormatError("manifest: one file and a directory at once")
        for before, after in itertools.pairwise(paths):
            if before.encode() >= after.encode():
                raise FormatError(f"manifest: {after!r} stands twice or out of order")

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """A manifest of entries in any order.

        Raises:
            FormatError: None at all, too many, or a path twice.
        """
        return cls(entries=tuple(sorted(entries, key=lambda entry: entry.path.encode())))

    @cached_property
    def canonical(self) -> bytes:
        """The manifest's one canonical form.

        Raises:
            FormatError: It is over `MAX_MANIFEST_BYTES`.
        """
        parts, size = [], 0
        # One at a time: the records of all entries together take as much memory as the entries.
        for entry in self.entries:
            parts.append(entry.canonical)
            size += len(parts[-1]) + 1
            if size > MAX_MANIFEST_BYTES - len(_START) - 1:
                raise FormatError(f"manifest: over {MAX_MANIFEST_BYTES} bytes; fewer files at once")
        return b"%b%b]}" % (_START, b",".join(parts))

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical form: the artifact's digest."""
        return str(digest_of([self.canonical]))

    @cached_property
    def commitment(self) -> Commitment:
        """What stands for it in a statement that does not hold it."""
        return Commitment(
            digest=self.digest,
            length_bytes=len(self.canonical),
            files=len(self.entries),
            size_bytes=self.size_bytes,
            algorithm=self.algorithm,
            is_sealed=self.is_sealed,
        )

    @property
    def algorithm(self) -> str:
        """The algorithm of the files' digests."""
        return self.entries[0].digest.algorithm

    @property
    def is_directory(self) -> bool:
        """Whether the artifact is a directory."""
        return self.entries[0].path != ""

    @property
    def is_sealed(self) -> bool:
        """Whether every file is sealed."""
        return all(entry.core_id is not None for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        """Length of all payloads together."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def outline(self) -> tuple[Outline, ...]:
        """The entries without their digests."""
        return tuple(entry.outline for entry in self.entries)

    def as_records(self) -> list[dict[str, Any]]:
        """The entries as they stand in canonical JSON."""
        return [entry.as_record() for entry in self.entries]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a canonical form; whose it is only its digest tells.

        Raises:
            FormatError: Another spelling or shape, an unknown field, entries out of order, or more
                than `MAX_MANIFEST_BYTES`.
        """
        record = decode(data, limits=_LIMITS)
        match record:
            case {"files": records, **rest} if not rest:
                return cls.from_records(records)
        raise FormatError("manifest: expected files and nothing else")

    @classmethod
    def from_records(cls, records: object) -> Self:
        """Read what `as_records` gave.

        Raises:
            FormatError: Another shape, an unknown field, or entries out of order.
        """
        if not isinstance(records, list) or len(records) > MAX_FILES:
            raise FormatError(f"manifest: expected a list of at most {MAX_FILES} files")
        return cls(entries=tuple(_entry(record) for record in records))


def compare(expected: Manifest, found: Manifest) -> None:
    """Return if both are the same.

    Raises:
        ManifestMismatchError: They differ; its attributes say which files were added, are missing
            or changed.
    """
    if expected.digest == found.digest:
        return
    theirs: Mapping[str, Entry] = {entry.path: entry for entry in expected.entries}
    ours: Mapping[str, Entry] = {entry.path: entry for entry in found.entries}
    added = sorted(ours.keys() - theirs.keys())
    missing = sorted(theirs.keys() - ours.keys())
    changed = sorted(path for path in ours.keys() & theirs.keys() if ours[path] != theirs[path])
    raise ManifestMismatchError(
        f"expected what was signed as {expected.digest}, found {found.digest}:"
        f" {_listed('added', added)}{_listed('missing', missing)}{_listed('changed', changed)}"
        " restore the signed files, or make the artifact again",
        added=added,
        missing=missing,
        changed=changed,
    )


def _listed(word: str, paths: Sequence[str]) -> str:
    if not paths:
        return ""
    names = ", ".join(repr(path) if path else "the file itself" for path in paths[:MAX_NAMES])
    rest = len(paths) - MAX_NAMES
    return f"{word} {names}{f' and {rest} more' if rest > 0 else ''};"


def _check_path(path: str) -> None:
    # The path of a signed statement is joined to a folder later: nothing may lead out of it.
    parts = path.split("/")
    if path and ("\0" in path or any(part in ("", ".", "..") for part in parts)):
        raise FormatError(f"manifest: {path!r} is no plain relative path")
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise FormatError(f"manifest: {path!r} is not valid UTF-8; rename the file") from error
    if size > MAX_PATH_BYTES:
        raise FormatError(f"manifest: a path of {size} bytes, at most {MAX_PATH_BYTES}")


def _entry(record: object) -> Entry:
    match record:
        case {"path": str(path), "bytes": int(size), "digest": str(digest), **rest} if (
            not isinstance(size, bool) and rest.keys() <= {"core"}
        ):
            core_id = rest.get("core")
            if core_id is None or isinstance(core_id, str):
                parsed = Digest.parse(digest)
                return Entry(path=path, size_bytes=size, digest=parsed, core_id=core_id)
    raise FormatError("manifest: a file needs path, bytes and digest, and may have core; no more")
