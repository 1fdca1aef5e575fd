"""Pack what an outsider needs to check events without us: one zip, the same bytes every time.

A pack holds the events of a selection, each with its proof, or the whole log as tiles; the
checkpoint, the verifier, a report for people. Values behind hidden values only if asked for.

Source: C2SP tlog-proof, tlog-tiles; AUDIT_TRAIL, Review.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.event import is_hidden
from airflow_secure_ml.core.audit.ports import AuditReader, WholeLog
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.audit.relaying import Stamped
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tlog_files import CHECKPOINT_FILE, NamedFile
from airflow_secure_ml.core.audit.tlog_proof import SUFFIX
from airflow_secure_ml.core.audit.tree import check_consistency, consistency_proof
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import AuditLogError, ConfigurationError
from airflow_secure_ml.services.evidence_report import EvidenceReport, readme
from airflow_secure_ml.services.exporting import Progress, tile_files
from airflow_secure_ml.services.proving import check_leaf_proof, prove_leaf

FORMAT = "asml-evidence/1"
# Each is a file of the zip, and all their places are held at once.
MAX_SELECTED = 10_000
MAX_VALUES = 100_000
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
        with_values: Whether values behind hidden values go along, with their salts.
    """

    query: EventQuery | None = None
    words: str = "the whole log"
    with_values: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What lies beside the events.

    Attributes:
        note: The checkpoint, with every further line that it carries.
        keys: The log's keys.
        witness_keys: Lines of verifier keys; empty: no witness is known.
        verifier: The bytes of verify.py.
        kept: A checkpoint that the pack's reader kept; the pack shows that the log grew from it.
        stamp: A time stamp over a checkpoint of this size or a smaller one.
    """

    note: str
    keys: Sequence[LogKey]
    witness_keys: str = ""
    verifier: bytes
    kept: str | None = None
    stamp: Stamped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was packed.

    Attributes:
        origin: The log's name.
        size: Number of leaves under the checkpoint.
        events: How many events the pack proves.
        values: How many values behind hidden values it holds.
        digest: Of the zip, `sha256:…`.
    """

    origin: str
    size: int
    events: int
    values: int
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
        values = _Values(reader) if selection.with_values else None
        if selection.query is None:
            events = checkpoint.size
            files = _whole(log, checkpoint, report, values)
        else:
            indices = _selected(reader, selection.query, checkpoint.size)
            events = len(indices)
            files = _proofs(reader, log, indices, beside, report, values)
        for path, data in _front(checkpoint, selection, beside, events):
            _put(archive, path, data)
        if beside.kept is not None:
            _put(archive, *_grown(log, beside.kept, beside.keys, checkpoint))
        if beside.stamp is not None:
            for path, data in _stamp(log, beside.stamp, beside.keys, checkpoint):
                _put(archive, path, data)
        for at, (path, data) in files:
            _put(archive, path, data)
            told(at, events)
        if values is not None:
            _put(archive, "values.json", values.encode())
        _put(archive, "report.html", report.render().encode("utf-8"))
    return Packed(
        origin=checkpoint.origin,
        size=checkpoint.size,
        events=events,
        values=0 if values is None else len(values.found),
        digest=_digest(stream),
    )


@dataclass(slots=True)
class _Values:
    """Collects what lies behind the hidden values of the events that pass.

    Attributes:
        found: By hash; what was erased is not among them.
    """

    reader: AuditReader
    found: dict[str, Aside] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """Look through an event, or a part of one."""
        if is_hidden(value):
            self._keep(str(value["h"]))
        elif isinstance(value, Mapping):
            for inner in value.values():
                self.add(inner)
        elif isinstance(value, list):
            for inner in value:
                self.add(inner)

    def _keep(self, h: str) -> None:
        aside = None if h in self.found else self.reader.aside(h)
        if aside is None:
            return
        if len(self.found) >= MAX_VALUES:
            raise ConfigurationError(
                f"export: more than {MAX_VALUES} hidden values; narrow the selection"
            )
        self.found[h] = aside

    def encode(self) -> bytes:
        """`[[hash, salt, value], …]` by hash."""
        rows = [[h, aside.salt, aside.value] for h, aside in sorted(self.found.items())]
        return json.dumps(rows, ensure_ascii=True, indent=0).encode("ascii") + b"\n"


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


def _stamp(
    log: WholeLog, stamp: Stamped, keys: Sequence[LogKey], checkpoint: Checkpoint
) -> Iterator[NamedFile]:
    """The note, its stamp, and the proof that the checkpoint extends the note's."""
    _, proof = _grown(log, stamp.note, keys, checkpoint)
    yield "timestamp/note", stamp.note.encode("utf-8")
    yield "timestamp/response.tsr", stamp.response
    yield "timestamp/consistency", proof


def _grown(log: WholeLog, note: str, keys: Sequence[LogKey], checkpoint: Checkpoint) -> NamedFile:
    """The proof that the checkpoint extends the one that was kept."""
    kept = open_checkpoint(note, keys, origin=checkpoint.origin)
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
    log: WholeLog, checkpoint: Checkpoint, report: EvidenceReport, values: _Values | None
) -> Iterator[tuple[int, NamedFile]]:
    yield from tile_files(log, checkpoint)
    # A second pass: a zip takes one file after the other, and the report is one of its own.
    for index, data, _ in log.leaves():
        if index >= checkpoint.size:
            break
        event = json.loads(data)
        report.add(index, event, is_listed=False)
        if values is not None:
            values.add(event)


def _proofs(
    reader: AuditReader,
    log: WholeLog,
    indices: Sequence[int],
    beside: Beside,
    report: EvidenceReport,
    values: _Values | None,
) -> Iterator[tuple[int, NamedFile]]:
    for at, index in enumerate(indices):
        leaf = _leaf(reader, index)
        proof = prove_leaf(log, index, leaf.data, beside.note)
        check_leaf_proof(proof, beside.keys)
        report.add(index, leaf.event, is_listed=True)
        if values is not None:
            values.add(leaf.event)
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
