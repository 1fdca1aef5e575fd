"""Open one input of a secured run: rules, statement, bytes, expectations, in that order.

A signed statement is found and verified before a key is used; what was opened counts only once its
digest is the one that the statement names.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import KeyRef, ObjectStore, RowSplitter
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.core.validation import ValidationReport, already_passed
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.sealed_header import ReaderKey
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import open_object
from airflow_secure_ml.services.signing import Candidates, Demand, Verified, statements_for
from airflow_secure_ml.services.validation import Quarantine, check_dataset, require_passed


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedInput:
    """An input as the body gets it.

    Attributes:
        item: What was asked for.
        value: A path in scratch, or a binary file for a stream.
        report: The verdict on it, if it was held against expectations here.
        bad_rows: Rows that failed, in scratch; None if there are none.
    """

    item: Input
    value: Path | BinaryIO
    report: ValidationReport | None = None
    bad_rows: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An input after its statement was found and before it was opened."""

    item: Input
    store: ObjectStore
    sealed: bool
    candidates: Candidates | None
    object: str
    keys: list[ReaderKey]


def size_of(work: Work, item: Input) -> int:
    """Bytes that an input will take in scratch at most; 0 if nothing is there."""
    store = work.desk.store(item.uri)
    info = store.info(item.uri)
    if info is None or item.stream:
        return 0
    if not info.is_directory:
        return info.size_bytes
    children = (store.info(store.child(item.uri, name)) for name in store.walk(item.uri))
    return sum(child.size_bytes for child in children if child is not None)


def open_input(work: Work, item: Input, target: Path, stack: contextlib.ExitStack) -> OpenedInput:
    """Open one input into scratch, or as a stream; each act is recorded.

    Args:
        work: The run.
        item: What to open.
        target: Where in scratch; nothing is there yet.
        stack: Keeps a stream's object until the run ends.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded, and not yet durable.
    """
    found = _find(work, item)
    since = work.journal.now()
    try:
        verified, key, value, size = _open(work, found, target, stack)
    except SecureMLError as error:
        act = "object.open" if found.sealed else "object.verify"
        work.journal.refused(act, error, object=_object(item), more=_pinned(item))
        raise
    _tell_opened(work, found, verified, key, size, since)
    if item.suite is None:
        return OpenedInput(item=item, value=value)
    return validate(work, OpenedInput(item=item, value=value), verified)


def _find(work: Work, item: Input) -> _Found:
    """Find out what lies there and whose statement may stand for it, without a key."""
    store, journal = work.desk.store(item.uri), work.journal
    try:
        sealed = _is_sealed(store, item)
        _ask_rules(work, item, sealed)
        if item.sealed and not sealed:
            raise FormatError(
                f"{item.name}: expected a sealed file at {item.uri}, found a plain one; seal it, "
                "or say Reads(…, sealed=False) if plain data is meant",
                why="not_sealed",
            )
        unsigned = not sealed and item.signed_by is None and item.pin is None
        candidates = None if unsigned else statements_for(store, item.uri, _demand(work, item))
        keys = _reader_keys(work, store, item) if sealed else []
    except FileNotFoundError as error:
        refusal = FormatError(
            f"{item.name}: expected an object at {item.uri}, found nothing; run the task that "
            "writes it first",
            why="not_sealed",
        )
        journal.refused("object.verify", refusal, object=_object(item))
        raise refusal from error
    except SecureMLError as error:
        journal.refused("object.verify", error, object=_object(item), more=_pinned(item))
        raise
    return _Found(
        item=item,
        store=store,
        sealed=sealed,
        candidates=candidates,
        object=_original(work, item),
        keys=keys,
    )


def _ask_rules(work: Work, item: Input, sealed: bool) -> None:
    if work.desk.rules is None:
        return
    decision = work.desk.rules.decide_read(
        item.uri, dag_id=work.plan.dag_id or None, sealed=sealed, key=None, today=work.today
    )
    work.obey(decision, "read", item.name)


def _original(work: Work, item: Input) -> str:
    """The address that an object was made for: a rule may call this place a copy of another."""
    rules = work.desk.rules
    return (rules.same_as(item.uri) if rules is not None else None) or item.uri


def _demand(work: Work, item: Input) -> Demand:
    desk, pin = work.desk, item.pin
    signers = item.signed_by or (desk.rules and desk.rules.signers_for_read(item.uri))
    produced_by = None
    if pin is not None and pin.dag_id is not None and pin.run_id is not None:
        produced_by = (pin.dag_id, pin.run_id)
    return Demand(
        verifiers=desk.keys.verifiers(signers or desk.trusted_signers),
        digest=None if pin is None else pin.digest,
        context=item.context,
        same_as=_original(work, item),
        produced_by=produced_by,
    )


def _is_sealed(store: ObjectStore, item: Input) -> bool:
    """Whether what lies there begins as a sealed file does; a directory: its first file."""
    info = store.info(item.uri)
    if info is None:
        raise FileNotFoundError(item.uri)
    uri = item.uri
    if info.is_directory:
        first = next(iter(store.walk(item.uri)), None)
        if first is None:
            raise FormatError(f"{item.name}: {item.uri} is an empty directory; expected files")
        uri = store.child(item.uri, first)
    with store.open(uri) as pinned:
        return pinned.read_at(0, len(MAGIC)) == MAGIC


def _reader_keys(work: Work, store: ObjectStore, item: Input) -> list[ReaderKey]:
    """The keys that may open it, in order; a data set's own lie below its root."""
    desk = work.desk
    only = None if desk.rules is None else desk.rules.key_for_write(item.uri)
    keys = desk.keys.unwrappers(None if only is None else {only})
    info = store.info(item.uri)
    is_directory = info is not None and info.is_directory
    root = item.uri if is_directory else item.uri.rpartition("/")[0]
    return [*keys, DataSetRoot(store, root, keys=keys, state_of=desk.keys.state_of)]


def _open(
    work: Work, found: _Found, target: Path, stack: contextlib.ExitStack
) -> tuple[Verified | None, KeyRef | None, Path | BinaryIO, int]:
    item, store = found.item, found.store
    info = store.info(item.uri)
    if item.stream and info is not None and not info.is_directory:
        return _open_stream(work, found, stack)
    if item.stream:
        raise FormatError(f"{item.name}: {item.uri} is a directory; a stream is of one file")
    entries: list[Entry] = []
    key: KeyRef | None = None
    size = 0
    for path, uri, place in _files(store, item.uri, target):
        entry, used, length = _open_file(work, found, path, uri, place)
        entries.append(entry)
        key, size = used or key, size + length
    manifest = Manifest.of(entries)
    verified = None if found.candidates is None else found.candidates.match(manifest)
    return verified, key, target, size


def _files(store: ObjectStore, uri: str, target: Path) -> Iterator[tuple[str, str, Path]]:
    """Relative name, address and place in scratch of each file of an artifact."""
    info = store.info(uri)
    if info is None or not info.is_directory:
        yield "", uri, target
        return
    target.mkdir(mode=0o700)
    for path in store.walk(uri):
        place = target / path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield path, store.child(uri, path), place


def _open_file(
    work: Work, found: _Found, path: str, uri: str, place: Path
) -> tuple[Entry, KeyRef | None, int]:
    """Open or copy one file into scratch, its digest taken in the same pass."""
    scratch = work.desk.scratch_store
    with (
        found.store.open(uri) as pinned,
        scratch.create(scratch.canonical(str(place))) as writer,
    ):
        if not found.sealed:
            entry = copy_plain(pinned, writer, path)
            writer.commit(replace=False)
            return entry, None, entry.size_bytes
        original = found.store.child(found.object, path) if path else found.object
        opened = open_object(
            pinned,
            writer,
            keys=found.keys,
            expect={"object": original, **found.item.context},
            state_of=work.desk.keys.state_of,
            digest_algorithm=_algorithm(found, path),
        )
        assert opened.payload_digest is not None
        entry = Entry(
            path=path,
            size_bytes=opened.payload_bytes,
            digest=Digest.parse(opened.payload_digest),
            core_id=opened.core_id.hex(),
        )
        writer.commit(replace=False)
        return entry, opened.key, opened.plaintext_bytes


def _algorithm(found: _Found, path: str) -> str:
    """The algorithm that the statement's digests were taken with."""
    if found.candidates is None:
        return "sha256"
    entries = found.candidates.statements[0].statement.manifest.entries
    return next((e.digest.algorithm for e in entries if e.path == path), "sha256")


def _open_stream(
    work: Work, found: _Found, stack: contextlib.ExitStack
) -> tuple[Verified | None, KeyRef | None, BinaryIO, int]:
    """A reader over the sealed object; its digest is checked before a byte is handed out."""
    item = found.item
    verified = None
    if found.candidates is not None:
        verified = found.candidates.match(build_manifest(found.store, item.uri))
    pinned = stack.enter_context(found.store.open(item.uri))
    if not found.sealed:
        raise FormatError(
            f"{item.name}: {item.uri} is plain; a stream decrypts as it reads, so drop stream=True"
        )
    reader = SealedReader(
        pinned,
        keys=found.keys,
        expect={"object": found.object, **item.context},
        state_of=work.desk.keys.state_of,
    )
    stack.callback(reader.close)
    return verified, reader.key, cast("BinaryIO", reader), reader.size_bytes


def validate(work: Work, opened: OpenedInput, verified: Verified | None) -> OpenedInput:
    """Hold an opened input against its suite, unless its statement says that it passed.

    Raises:
        SecureMLError: It failed, or cannot be checked; recorded.
    """
    item, journal = opened.item, work.journal
    assert item.suite is not None
    assert isinstance(opened.value, Path)
    since = journal.now()
    more: dict[str, object] = {"suite": item.suite.name}
    try:
        digest = work.desk.checker.suite_digest(item.suite)
        more["suite_digest"] = digest
        passed = [str(suite.digest) for suite in verified.suites] if verified is not None else []
        if already_passed(digest, passed):
            journal.did("object.validate", object=_object(item), more={**more, "trusted": True})
            journal.tell(f"validated {item.name}: {item.suite.name} passed when it was signed")
            return opened
        quarantine = _quarantine(work, item, opened.value)
        result = check_dataset(
            opened.value, item.suite, checker=work.desk.checker, quarantine=quarantine
        )
        more |= verdict(result.report)
        require_passed(result)
    except SecureMLError as error:
        journal.refused("object.validate", error, object=_object(item), more=more)
        raise
    journal.did("object.validate", since=since, object=_object(item), more=more)
    journal.tell(
        f"validated {item.name}: {len(result.report.results)} expectations of "
        f"{item.suite.name} on {result.report.rows:,} rows"
        + (f", {result.quarantined_rows} rows set aside" if result.quarantined else "")
    )
    return replace(opened, value=result.data, report=result.report, bad_rows=result.quarantined)


def verdict(report: ValidationReport) -> dict[str, object]:
    """A verdict as events carry it: names and counts, never a value."""
    return {
        "checked": len(report.results),
        "failed": len(report.failed),
        "warned": len(report.warned),
        "failed_names": list(report.failed[:10]) or None,
    }


def _quarantine(work: Work, item: Input, data: Path) -> Quarantine | None:
    if item.quarantine is None:
        return None
    good, bad = data.parent / f"good{data.suffix}", data.parent / f"bad{data.suffix}"
    return Quarantine(splitter=cast("RowSplitter", work.desk.checker), good=good, bad=bad)


def _object(item: Input) -> dict[str, object]:
    return {"name": item.name, "uri": item.uri}


def _pinned(item: Input) -> dict[str, object]:
    if item.pin is None:
        return {}
    return {"pinned_by": item.pin.by, "expected": item.pin.digest}


def _tell_opened(
    work: Work,
    found: _Found,
    verified: Verified | None,
    key: KeyRef | None,
    size: int,
    since: float,
) -> None:
    item, journal = found.item, work.journal
    facts = {**_object(item), "bytes": size}
    signers: list[str] = []
    if verified is not None:
        facts["digest"] = verified.digest
        signers = [str(ref) for ref in verified.signers]
        more = {"signers": signers, **_pinned(item)}
        if verified.suites:
            more["suites"] = [suite.name for suite in verified.suites]
        journal.did("object.verify", object=facts, more=more)
    if key is not None:
        more = {"signer": signers[0] if signers else None, "stream": item.stream or None}
        journal.did("object.open", since=since, object=facts, key=key_facts(key), more={**more})
    took = round((journal.now() - since) * 1000)
    by = f", signed by {', '.join(signers)}" if signers else ", not signed"
    word = "opened" if key is not None else "read plain"
    journal.tell(f"{word} {item.name}: {in_words(size)} in {took} ms{by}")
