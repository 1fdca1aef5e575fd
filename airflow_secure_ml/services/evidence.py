"""Pack what an outsider needs to check events without us: one zip, the same bytes every time.

A pack holds the events of a selection, each with its proof, or the whole log as tiles; the
checkpoint, the verifier, a report for people. Values behind hidden values are not in it.

Source: C2SP tlog-proof, tlog-tiles; AUDIT_TRAIL, Review.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.ports import AuditReader, WholeLog
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tlog_files import CHECKPOINT_FILE, NamedFile
from airflow_secure_ml.core.audit.tlog_proof import SUFFIX
from airflow_secure_ml.core.audit.tree import check_consistency, consistency_proof
from airflow_secure_ml.errors import AuditLogError, ConfigurationError
from airflow_secure_ml.services.evidence_report import EvidenceReport, readme
from airflow_secure_ml.services.exporting import Progress, tile_files
from airflow_secure_ml.services.proving import check_leaf_proof, prove_leaf

FORMAT = "asml-evidence/1"
# Each is a file of the zip, and all their places are held at once.
MAX_SELECTED = 10_000
_PAGE = 1000
# The first that a zip can say; the real one would make every pack another.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX, _MODE = 3, 0o600 << 16
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events go into a pack.

    Attributes:
        query: Which; None: the whole log, as tiles.
        words: The same for people.
    """

    query: EventQuery | None = None
    words: str = "the whole log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What lies beside the events.

    Attributes:
        note: The checkpoint, with every further line that it carries.
        keys: The log's keys.
        witness_keys: Lines of verifier keys; empty: no witness is known.
        verifier: The bytes of verify.py.
        kept: A checkpoint that the pack's reader kept; the pack shows that the log grew from it.
    """

    note: str
    keys: Sequence[LogKey]
    witness_keys: str = ""
    verifier: bytes
    kept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was packed.

    Attributes:
        origin: The log's name.
        size: Number of leaves under the checkpoint.
        events: How many events the pack proves.
        digest: Of the zip, `sha256:…`.
    """

    origin: str
    size: int
    events: int
    digest: str


def write_pack(
    reader: AuditReader,
    selection: Selection,
    beside: Beside,
    stream: BinaryIO,
    *,
    progress: Progress | None = None,
) -> Packed:
    """Write a pack; nothing of it stands unless this returns.

    Args:
        reader: The log.
        selection: Which events.
        beside: What lies beside them.
        stream: Where to: empty, seekable, read and written.
        progress: Called with (events done, events in all).

    Raises:
        AuditLogError: An event does not lead to the checkpoint's root: the store was changed.
        ConfigurationError: The selection is larger than a pack of proofs may be.
        SignatureError: The checkpoint's signature does not hold.
        PolicyError: It is signed by no known key.
    """
    checkpoint = open_checkpoint(beside.note, beside.keys, origin=reader.origin())
    told = progress or (lambda done, total: None)
    with reader.whole() as log, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        report = EvidenceReport(checkpoint=checkpoint, note=beside.note, words=selection.words)
        if selection.query is None:
            events = checkpoint.size
            files = _whole(log, checkpoint, report)
        else:
            indices = _selected(reader, selection.query, checkpoint.size)
            events = len(indices)
            files = _proofs(reader, log, indices, beside, report)
        for path, data in _front(checkpoint, selection, beside, events):
            _put(archive, path, data)
        if beside.kept is not None:
            _put(archive, *_grown(log, beside, checkpoint))
        for at, (path, data) in files:
            _put(archive, path, data)
            told(at, events)
        _put(archive, "report.html", report.render().encode("utf-8"))
    return Packed(
        origin=checkpoint.origin, size=checkpoint.size, events=events, digest=_digest(stream)
    )


def _front(
    checkpoint: Checkpoint, selection: Selection, beside: Beside, events: int
) -> Iterator[NamedFile]:
    about = {
        "format": FORMAT,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "whole": selection.query is None,
        "query": selection.words,
        "events": events,
    }
    text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    yield "README.txt", readme(checkpoint, events, is_whole=selection.query is None).encode()
    yield "pack.json", text.encode("ascii")
    yield CHECKPOINT_FILE, beside.note.encode("utf-8")
    yield "log_keys", "".join(key.line() for key in beside.keys).encode("utf-8")
    if beside.witness_keys:
        yield "witness_keys", beside.witness_keys.encode("utf-8")
    yield "verify.py", beside.verifier


def _grown(log: WholeLog, beside: Beside, checkpoint: Checkpoint) -> NamedFile:
    """The proof that the checkpoint extends the one that was kept."""
    kept = open_checkpoint(beside.kept or "", beside.keys, origin=checkpoint.origin)
    if kept.size > checkpoint.size:
        raise AuditLogError(
            f"audit log: the kept checkpoint covers {kept.size} leaves, this one "
            f"{checkpoint.size}; the log was cut or rolled back, or --size is too small",
            index=checkpoint.size,
        )
    node = node_reader(log.leaf_hashes, log.tile)
    proof = consistency_proof(kept.size, checkpoint.size, node)
    check_consistency(kept.size, kept.root, checkpoint.size, checkpoint.root, proof)
    lines = [base64.b64encode(step).decode() + "\n" for step in proof]
    return f"consistency/{kept.size:012d}", "".join(lines).encode("ascii")


def _whole(
    log: WholeLog, checkpoint: Checkpoint, report: EvidenceReport
) -> Iterator[tuple[int, NamedFile]]:
    yield from tile_files(log, checkpoint)
    # A second pass: a zip takes one file after the other, and the report is one of its own.
    for index, data, _ in log.leaves():
        if index >= checkpoint.size:
            break
        report.add(index, json.loads(data), is_listed=False)


def _proofs(
    reader: AuditReader,
    log: WholeLog,
    indices: Sequence[int],
    beside: Beside,
    report: EvidenceReport,
) -> Iterator[tuple[int, NamedFile]]:
    for at, index in enumerate(indices):
        leaf = _leaf(reader, index)
        proof = prove_leaf(log, index, leaf.data, beside.note)
        check_leaf_proof(proof, beside.keys)
        report.add(index, leaf.event, is_listed=True)
        yield at, (f"proofs/{index:012d}{SUFFIX}", proof.encode().encode("utf-8"))


def _selected(reader: AuditReader, query: EventQuery, size: int) -> list[int]:
    """The indices of a selection that the checkpoint covers, in order."""
    if reader.count(query, at_most=MAX_SELECTED + 1) > MAX_SELECTED:
        raise ConfigurationError(
            f"export: more than {MAX_SELECTED} events match; narrow the selection, or export the "
            "whole log"
        )
    found: list[int] = []
    page = reader.page(query, limit=_PAGE)
    while page:
        found += [leaf.index for leaf in page if leaf.index < size]
        last = page[-1]
        page = reader.page(query, older_than=(last.event["time"], last.index), limit=_PAGE)
    return sorted(found)


def _leaf(reader: AuditReader, index: int) -> Leaf:
    leaf = reader.leaf(index)
    if leaf is None:
        raise AuditLogError(f"audit log: leaf {index} is missing; it was cut out", index=index)
    return leaf


def _put(archive: zipfile.ZipFile, path: str, data: bytes) -> None:
    info = zipfile.ZipInfo(path, _TIME)
    info.create_system, info.external_attr = _UNIX, _MODE
    archive.writestr(info, data)


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while data := stream.read(_READ_BYTES):
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"
