"""`audit export`, `prove`, `check-proof`: events leave the log in forms that others check.

What leaves is recorded before it does. Whoever runs these reads the log's file: there is no right
to a part of it, and no filter here is one.
"""

from __future__ import annotations

import argparse
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.export_folder import LocalExportFolder, whole_file
from airflow_secure_ml.commands.audit_log import check_text, log_keys, log_reader, read_note
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.checkpoint import LogKey, parse_log_keys
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.audit.tlog_proof import MAX_PROOF_BYTES, parse_tlog_proof
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.evidence import FORMAT, Packed, Selection, write_pack
from airflow_secure_ml.services.evidence_beside import beside_events, newest_note
from airflow_secure_ml.services.exporting import Exported, export_tiles
from airflow_secure_ml.services.proving import check_leaf_proof, prove_leaf

_FILTERS = ("dag", "run", "task", "act", "result", "uri", "since", "until")
_MAX_KEYS_CHARS = 1 << 20


def export(arguments: argparse.Namespace, session: Session) -> Result:
    """Give the log, or events of it, away as files."""
    words = _words(arguments)
    if (arguments.tiles is None) == (arguments.pack is None):
        raise ConfigurationError("audit export: give one of --tiles DIR and --pack FILE.zip")
    if arguments.tiles is not None:
        if words or arguments.kept is not None or arguments.values:
            raise ConfigurationError(
                "audit export --tiles gives the whole log; filters, --kept and --values are for "
                "--pack"
            )
        return _tiles(arguments, session)
    return _pack(arguments, session, words)


def _tiles(arguments: argparse.Namespace, session: Session) -> Result:
    folder = Path(arguments.tiles)
    reader, keys = log_reader(), log_keys()
    note, _ = newest_note(reader, deployment().relay_book, size=arguments.size)
    with session.act("trail.export", more={"format": "tlog-tiles"}) as outcome:
        with reader.whole() as log, _bar() as bar:
            found: Exported = export_tiles(
                log, note, keys, LocalExportFolder(folder), progress=lambda done, _: bar(done)
            )
        digest = f"sha256:{hashlib.sha256(note.encode('utf-8')).hexdigest()}"
        outcome.more = {"events": found.size, "digest": digest}
    data = {
        "origin": found.origin,
        "size": found.size,
        "root": found.root,
        "written": found.written,
        "kept": found.kept,
    }
    line = f"{folder}: {found.size} leaves of {found.origin}, root {found.root}"
    return Result(data=data, lines=[line, f"{found.written} files made, {found.kept} kept"])


def _pack(arguments: argparse.Namespace, session: Session, words: list[str]) -> Result:
    reader, keys = log_reader(), log_keys()
    selection = Selection(
        query=_query(arguments) if words else None,
        words=" ".join(words) or Selection().words,
        with_values=arguments.values,
    )
    verifier = resources.files("airflow_secure_ml.verifier").joinpath("verify.py").read_bytes()
    beside = beside_events(
        reader,
        deployment().relay_book,
        keys,
        verifier,
        size=arguments.size,
        kept=None if arguments.kept is None else read_note(arguments.kept),
    )
    more: dict[str, Any] = {"format": FORMAT, "query": selection.words}
    if selection.with_values:
        more["values"] = True
    with session.act("trail.export", more=more) as outcome:
        with whole_file(Path(arguments.pack)) as stream, _bar() as bar:
            found: Packed = write_pack(
                reader, selection, beside, stream, progress=lambda done, _: bar(done)
            )
        outcome.more = {"events": found.events, "digest": found.digest}
    data = {
        "origin": found.origin,
        "size": found.size,
        "events": found.events,
        "values": found.values,
        "digest": found.digest,
    }
    line = f"{arguments.pack}: {found.events} events of {found.origin}, {found.digest}"
    return Result(data=data, lines=[line])


def prove(arguments: argparse.Namespace, session: Session) -> Result:
    """Print the proof of one event."""
    reader = log_reader()
    leaf = _leaf(reader, arguments.event)
    note, _ = newest_note(reader, deployment().relay_book, size=arguments.size)
    more = {"format": "tlog-proof", "query": arguments.event}
    with session.act("trail.export", more=more) as outcome:
        with reader.whole() as log:
            proof = prove_leaf(log, leaf.index, leaf.data, note)
        # A store that was changed gives no proof that holds; better here than at the reader's.
        check_leaf_proof(proof, log_keys(), origin=reader.origin())
        text = proof.encode()
        digest = f"sha256:{hashlib.sha256(text.encode('utf-8')).hexdigest()}"
        outcome.more = {"events": 1, "digest": digest}
    return Result(data={"index": leaf.index, "proof": text}, lines=text[:-1].split("\n"))


def check_proof(arguments: argparse.Namespace, session: Session) -> Result:
    """Check a proof with the log's public keys."""
    proof = parse_tlog_proof(_read(arguments.file, MAX_PROOF_BYTES).decode("utf-8", "replace"))
    keys = _keys_of(arguments.keys) if arguments.keys is not None else log_keys()
    event = None if arguments.event is None else _read(arguments.event, MAX_PROOF_BYTES)
    found = check_leaf_proof(proof, keys, leaf=event)
    data = {
        "index": proof.index,
        "origin": found.origin,
        "size": found.size,
        "root": found.root.hex(),
    }
    line = f"leaf {proof.index} is in {found.origin}, under its checkpoint over {found.size} leaves"
    return Result(data=data, lines=[line])


def _leaf(reader: AuditReader, event: str) -> Leaf:
    is_index = event.isascii() and event.isdigit() and len(event) <= 16
    leaf = reader.leaf(int(event)) if is_index else reader.find(event)
    if leaf is None:
        raise ConfigurationError(
            f"{event[:80]!r}: no such event; name it as <emitter>:<seq>, or by its leaf's index"
        )
    return leaf


def _words(arguments: argparse.Namespace) -> list[str]:
    """The selection as words, for the trail and the pack."""
    found = []
    for name in _FILTERS:
        value = getattr(arguments, name)
        values = value if isinstance(value, list) else [value] if value is not None else []
        check_text(*values)
        found += [f"{name}={each}" for each in values]
    return found


def _query(arguments: argparse.Namespace) -> EventQuery:
    return EventQuery(
        dag=arguments.dag,
        run=arguments.run,
        task=arguments.task,
        acts=tuple(arguments.act or ()),
        results=tuple(arguments.result or ()),
        uri=arguments.uri,
        from_ms=_time(arguments.since),
        until_ms=_time(arguments.until),
    )


def _time(text: str | None) -> int | None:
    """ms since 1970 UTC; without a zone it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return round(found.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{text[:60]!r}: expected a time such as 2026-11-22T03:00Z"
        ) from error


def _keys_of(name: str) -> tuple[LogKey, ...]:
    return parse_log_keys(_read(name, _MAX_KEYS_CHARS).decode("utf-8", "replace"))


def _read(name: str, limit: int) -> bytes:
    with Path(name).open("rb") as stream:
        return stream.read(limit + 1)


def _bar() -> Progress:
    return Progress(None, in_words=lambda count: f"{count:.0f} events")
