"""Give a log away as files that others read without us: tlog-tiles.

Nothing that is stored is believed: hashes and tiles are derived from the leaves, and the checkpoint
is written only where they lead to its root.

Source: C2SP tlog-tiles; AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    LogKey,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from airflow_secure_ml.core.audit.ports import WholeLog
from airflow_secure_ml.core.audit.pruning import pruned_to
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH
from airflow_secure_ml.core.audit.tlog_files import CHECKPOINT_FILE, NamedFile, TileCutter
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, leaf_hash
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    SecureMLError,
)

# (leaves done, leaves in all)
Progress = Callable[[int, int], None]


class ExportFolder(Protocol):
    """Where files are given out; paths have `/` between their elements."""

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None: there is none yet."""

    def write(self, path: str, data: bytes) -> None:
        """Make a file whole and durable, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was given out.

    Attributes:
        origin: The log's name.
        size: Number of leaves under the checkpoint.
        root: Their root, hex.
        written: Files made.
        kept: Files that were there already, with the same bytes.
    """

    origin: str
    size: int
    root: str
    written: int
    kept: int


def export_tiles(
    log: WholeLog,
    note: str,
    keys: Sequence[LogKey],
    folder: ExportFolder,
    *,
    progress: Progress | None = None,
) -> Exported:
    """Export the leaves under a checkpoint; an export that was broken off is gone on with.

    Args:
        log: One consistent view of the log, at least as large as the checkpoint.
        note: The checkpoint, with every further line that it carries.
        keys: Keys that may sign it.
        folder: Where the files go; what an earlier export of this log left is kept.
        progress: Called with (leaves done, leaves in all).

    Raises:
        AuditLogError: The log's leaves do not give the checkpoint's root, or a file of an earlier
            export holds something else than the log does now.
        ConfigurationError: The folder holds another log, or more of this one; or it was pruned.
        SignatureError: The checkpoint's signature does not hold.
        PolicyError: It is signed by no known key.
    """
    checkpoint = open_checkpoint(note, keys, origin=log.origin())
    _check_folder(folder, checkpoint)
    told = progress or (lambda done, total: None)
    written = kept = 0
    for at, (path, data) in tile_files(log, checkpoint):
        found = folder.read(path)
        if found is None:
            folder.write(path, data)
        elif found != data:
            raise AuditLogError(
                f"export: {path} is there and holds something else than the log does; one of them "
                "was changed",
                index=at,
            )
        written, kept = written + (found is None), kept + (found is not None)
        told(at, checkpoint.size)
    # Last: whoever finds a checkpoint finds everything under it.
    folder.write(CHECKPOINT_FILE, note.encode("utf-8"))
    return Exported(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        written=written + 1,
        kept=kept,
    )


def tile_files(log: WholeLog, checkpoint: Checkpoint) -> Iterator[tuple[int, NamedFile]]:
    """Derive every file under a checkpoint: (index of a leaf in it, (path, bytes)).

    Raises:
        AuditLogError: A leaf is missing or does not give its stored hash, or the root at the end is
            not the checkpoint's.
        ConfigurationError: The log was pruned.
    """
    cutter = TileCutter()
    for index, data, stored in log.leaves():
        if index >= checkpoint.size:
            break
        if index != cutter.size:
            raise _missing(log, cutter.size, index)
        if not hmac.compare_digest(leaf_hash(data), stored):
            raise AuditLogError(
                f"audit log: leaf {index} does not give its stored hash; it was changed",
                index=index,
            )
        for file in cutter.add(data):
            yield index - index % TILE_WIDTH, file
    for file in cutter.finish():
        yield cutter.size - 1, file
    root = cutter.edge.root() if cutter.size else EMPTY_ROOT
    if cutter.size != checkpoint.size or not hmac.compare_digest(root, checkpoint.root):
        raise AuditLogError(
            f"audit log: its first {checkpoint.size} leaves are not those that were signed; "
            "run audit verify"
        )


def _missing(log: WholeLog, at: int, index: int) -> SecureMLError:
    """Why leaf `at` is not there, the next one being `index`."""
    if at == 0:
        for said_at, data, _ in log.leaves():
            event = json.loads(data)
            if event["act"] == "trail.prune" and pruned_to(event) >= index:
                return ConfigurationError(
                    f"export: leaf 0 was pruned, and all below {index} were, as leaf {said_at} "
                    "says; audit verify tells whether that is signed. A whole log can be exported "
                    "no more: take its archive, or filters with --pack"
                )
    return AuditLogError(f"audit log: leaf {at} is missing; it was cut out", index=at)


def _check_folder(folder: ExportFolder, checkpoint: Checkpoint) -> None:
    """Refuse a folder whose checkpoint ours does not come after."""
    before = folder.read(CHECKPOINT_FILE)
    if before is None:
        return
    try:
        found = parse_checkpoint(parse_note(before.decode("utf-8")).text)
    except (UnicodeDecodeError, FormatError) as error:
        raise ConfigurationError(
            "export: the folder holds a file `checkpoint` that is none; name another folder"
        ) from error
    if found.origin != checkpoint.origin:
        raise ConfigurationError(
            f"export: the folder holds the log {found.origin!r}, not {checkpoint.origin!r}; name "
            "another folder"
        )
    if found.size > checkpoint.size:
        raise ConfigurationError(
            f"export: the folder holds {found.size} leaves, the checkpoint covers "
            f"{checkpoint.size}; if the log has no more, it was cut or rolled back"
        )
    if found.size == checkpoint.size and found.root != checkpoint.root:
        raise AuditLogError(
            f"export: the folder's checkpoint over {found.size} leaves has another root; one of "
            "the two histories is not the one that was signed first"
        )
