"""Read a file or a directory in a store and say what it consists of.

Needs no key: of a sealed file it reads the header and the payload as it lies there. Several files
are read at once; no file is read whole into memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from airflow_secure_ml.core.digest import Digest, hasher
from airflow_secure_ml.core.manifest import MAX_FILES, Entry, Manifest, Outline
from airflow_secure_ml.core.ports import ObjectStore, PinnedObject, Recollection
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.errors import FormatError, IntegrityError
from airflow_secure_ml.services.artifact import Artifact, pin_artifact
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.several import several

_T = TypeVar("_T")

_BUFFER_BYTES = 1 << 20
# Small enough that the threads end together, large enough that handing out costs nothing.
_BATCH_FILES = 32


def build_manifest(
    store: ObjectStore, uri: str, *, algorithm: str = "sha256", threads: int | None = None
) -> Manifest:
    """Read every file of an artifact and digest its payload.

    Args:
        store: Where it lies.
        uri: Its canonical address.
        algorithm: Of the files' digests; the manifest's own is always sha256.
        threads: How many files are read at once; None: as many as helps.

    Raises:
        FileNotFoundError: Nothing is there.
        FormatError: An empty directory, too many files, something that is no file, or a sealed
            file whose header is broken.
        IntegrityError: A file changed while it was read.
    """
    with pin_artifact(store, uri) as artifact:
        return manifest_of(artifact, algorithm=algorithm, threads=threads)


def manifest_of(
    artifact: Artifact,
    *,
    algorithm: str = "sha256",
    threads: int | None = None,
    remembered: Recollection | None = None,
) -> Manifest:
    """As `build_manifest`, of what is pinned already.

    Args:
        artifact: What is pinned.
        algorithm: Of the files' digests.
        threads: How many files are read at once; None: as many as helps.
        remembered: Files it knows are not read; it learns of the others.
    """

    def read(pinned: PinnedObject, path: str, buffer: bytearray) -> Entry:
        if remembered is not None:
            remembered.note(path, pinned)
        start, core_id = _start(pinned)
        digest = _digest(pinned, start, algorithm, buffer)
        pinned.check_unchanged()
        size_bytes = pinned.size_bytes - start
        return Entry(path=path, size_bytes=size_bytes, digest=digest, core_id=core_id)

    known = {} if remembered is None else remembered.known
    paths = _paths(artifact)
    unknown = [path for path in paths if path not in known]
    found = _each_file(artifact, unknown, read, threads)
    found += [known[path] for path in paths if path in known]
    return Manifest.of(found)


def build_outline(
    store: ObjectStore, uri: str, *, threads: int | None = None
) -> tuple[Outline, ...]:
    """Read only the headers of an artifact's files: what can be known before reading it all.

    Returns:
        One outline a file, in the order of `Manifest.outline`.

    Raises:
        FileNotFoundError, FormatError: As `build_manifest`.
    """
    with pin_artifact(store, uri) as artifact:
        return outline_of(artifact, threads=threads)


def outline_of(artifact: Artifact, *, threads: int | None = None) -> tuple[Outline, ...]:
    """As `build_outline`, of what is pinned already."""

    def read(pinned: PinnedObject, path: str, buffer: bytearray) -> Outline:
        start, core_id = _start(pinned)
        return Outline(path=path, size_bytes=pinned.size_bytes - start, core_id=core_id)

    found = _each_file(artifact, _paths(artifact), read, threads)
    return tuple(sorted(found, key=lambda each: each.path.encode()))


def _each_file(
    artifact: Artifact,
    paths: Sequence[str],
    read: Callable[[PinnedObject, str, bytearray], _T],
    threads: int | None,
) -> list[_T]:
    """Call `read` with files of the artifact, pinned; in no particular order of time."""

    def read_batch(paths: Sequence[str]) -> list[_T]:
        buffer = bytearray(_BUFFER_BYTES)
        found = []
        for path in paths:
            with artifact.open(path) as pinned:
                found.append(read(pinned, path, buffer))
        return found

    threads = threads or max(len(os.sched_getaffinity(0)), artifact.files_at_once)
    size = _BATCH_FILES if artifact.files_at_once == 1 else 1
    batches = [paths[at : at + size] for at in range(0, len(paths), size)]
    return [each for found in several(read_batch, batches, at_once=threads) for each in found]


def _paths(artifact: Artifact) -> Sequence[str]:
    paths = artifact.names()
    if not 1 <= len(paths) <= MAX_FILES:
        found = "none" if not paths else "more"
        raise FormatError(
            f"{artifact.uri}: expected 1 to {MAX_FILES} files in the directory, found {found}"
        )
    return paths


def _start(pinned: PinnedObject) -> tuple[int, str | None]:
    """Where a file's payload begins, and its core_id if it is sealed."""
    # Only the magic makes a file sealed: one that begins so and is broken is refused, not plain.
    if pinned.read_at(0, len(MAGIC)) != MAGIC:
        return 0, None
    header = read_sealed_header(pinned)
    return header.size_bytes, header.core_id.hex()


def _digest(pinned: PinnedObject, start: int, algorithm: str, buffer: bytearray) -> Digest:
    state = hasher(algorithm)
    view = memoryview(buffer)
    offset = start
    while offset < pinned.size_bytes:
        count = pinned.readinto_at(offset, view[: pinned.size_bytes - offset])
        if count == 0:
            raise IntegrityError(f"{pinned.uri}: it became shorter while it was read; read again")
        state.update(view[:count])
        offset += count
    return Digest(algorithm=algorithm, hex=state.hexdigest())
