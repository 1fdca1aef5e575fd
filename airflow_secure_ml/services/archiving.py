"""Write the bytes of old leaves elsewhere, as tlog-tiles, before they go.

Entry bundles of the range, every hash tile under a checkpoint, the checkpoint: enough to prove each
archived leaf without the log. All of it is read back and held against the log.

Source: C2SP tlog-tiles; AUDIT_TRAIL, Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.audit.checkpoint import LogKey, open_checkpoint
from airflow_secure_ml.core.audit.ports import WholeLog
from airflow_secure_ml.core.audit.tiles import TILE_HEIGHT, TILE_WIDTH, node_reader
from airflow_secure_ml.core.audit.tlog_files import (
    CHECKPOINT_FILE,
    encode_bundle,
    entries_path,
    tile_path,
)
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.errors import AuditLogError, FormatError
from airflow_secure_ml.services.exporting import ExportFolder

# A bundle: 256 leaves of at most 32 KiB, each after two bytes.
MAX_FILE_BYTES = TILE_WIDTH * 32770


class ObjectFolder:
    """An ExportFolder over a store of objects; only `checkpoint` is ever replaced.

    Args:
        store: The store.
        uri: The folder's canonical address.
    """

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self._store, self._uri = store, uri

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None: there is none yet.

        Raises:
            FormatError: It is longer than any file of an archive.
        """
        uri = self._store.child(self._uri, path)
        if self._store.info(uri) is None:
            return None
        with self._store.open(uri) as found:
            if found.size_bytes > MAX_FILE_BYTES:
                raise FormatError(
                    f"archive: {path} has {found.size_bytes} bytes, no file of it has"
                )
            return found.read_at(0, found.size_bytes)

    def write(self, path: str, data: bytes) -> None:
        """Make a file whole and durable, or not at all.

        Raises:
            PolicyError: Another writer made it meanwhile (address_taken).
        """
        with self._store.create(self._store.child(self._uri, path)) as writer:
            writer.write_at(0, data)
            writer.commit(replace=path == CHECKPOINT_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What an archive holds now.

    Attributes:
        first: Its first leaf of this run.
        below: The first leaf after it.
        written: Files made.
        kept: Files that were there already, with the same bytes.
    """

    first: int
    below: int
    written: int
    kept: int


def archive_leaves(
    log: WholeLog,
    note: str,
    keys: Sequence[LogKey],
    folder: ExportFolder,
    *,
    first: int,
    below: int,
) -> Archived:
    """Write leaves first … below-1 to a folder, and read everything back.

    Args:
        log: One consistent view of a log that verifies.
        note: A checkpoint over at least `below` leaves.
        keys: Keys that may sign it.
        folder: Where to; what an earlier run left is gone on with.
        first: A multiple of 256.
        below: A multiple of 256.

    Raises:
        AuditLogError: What is read back is not what the log holds, or another log lies there.
    """
    checkpoint = open_checkpoint(note, keys, origin=log.origin())
    if checkpoint.size < below:
        raise AuditLogError(f"archive: the checkpoint covers {checkpoint.size} leaves, not {below}")
    written = kept = 0
    for path, data in _files(log, checkpoint.size, first, below):
        is_there = folder.read(path) is not None
        if not is_there:
            folder.write(path, data)
        # Read from there in either case: what was confirmed is not yet what is there.
        if folder.read(path) != data:
            raise AuditLogError(
                f"archive: {path} does not hold what the log holds; nothing is pruned"
            )
        written, kept = written + (not is_there), kept + is_there
    folder.write(CHECKPOINT_FILE, note.encode("utf-8"))
    if folder.read(CHECKPOINT_FILE) != note.encode("utf-8"):
        raise AuditLogError("archive: its checkpoint is not what was written; nothing is pruned")
    return Archived(first=first, below=below, written=written + 1, kept=kept)


def _files(log: WholeLog, size: int, first: int, below: int) -> Iterator[tuple[str, bytes]]:
    yield from _bundles(log, first, below)
    node = node_reader(log.leaf_hashes, log.tile)
    level, count = 0, size
    while count:
        for n in range(-(-count // TILE_WIDTH)):
            width = min(count - n * TILE_WIDTH, TILE_WIDTH)
            whole = log.tile(level, n) if width == TILE_WIDTH else None
            start = n * TILE_WIDTH
            hashes = (node(level * TILE_HEIGHT, at) for at in range(start, start + width))
            yield tile_path(level, n, width), b"".join(hashes) if whole is None else whole
        level, count = level + 1, count // TILE_WIDTH


def _bundles(log: WholeLog, first: int, below: int) -> Iterator[tuple[str, bytes]]:
    entries: list[bytes] = []
    for index, data, _ in log.leaves():
        if not first <= index < below:
            if index >= below:
                break
            continue
        if index != first + len(entries) % TILE_WIDTH:
            raise AuditLogError(f"archive: leaf {index} stands in another's place", index=index)
        entries.append(data)
        if len(entries) < TILE_WIDTH:
            continue
        n = first // TILE_WIDTH
        if b"".join(leaf_hash(entry) for entry in entries) != log.tile(0, n):
            raise AuditLogError(f"archive: leaves from {first} do not give their tile", index=first)
        yield entries_path(n), encode_bundle(entries)
        first, entries = first + TILE_WIDTH, []
    if first != below:
        raise AuditLogError(f"archive: leaf {first + len(entries)} is missing", index=first)
