"""Open one input of a secured run: rules, statement, bytes, in that order.

A signed statement is found and verified before a key is used; what was opened counts only once its
digest is the one that the statement names.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import KeyRef, ObjectInfo, ObjectStore
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.errors import FormatError, IntegrityError, SecureMLError
from airflow_secure_ml.services.artifact import pin_artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import (
    FoundInput,
    as_refusal,
    find_input,
    object_facts,
    pin_facts,
)
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.parquet_inputs import (
    Source,
    is_column_sealed,
    open_column_sealed,
)
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import DEFAULT_THREADS, digest_payload, open_object
from airflow_secure_ml.services.several import several
from airflow_secure_ml.services.signing import Verified

# Anybody accepted may add statements, and an event has room for so many of what they say.
MAX_LISTED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedInput:
    """An input as the body gets it.

    Attributes:
        item: What was asked for.
        value: A path in scratch, or a binary file for a stream.
        manifest: What it consists of, as it was read.
        verified: The statements that stand for it; None: plain, and nobody's signature was asked.
        key: What opened it; None: plain.
        size_bytes: Length of the plaintext.
        column_keys: What opened Parquet columns that have keys of their own.
        left_out: Such columns that may not be opened, with their keys' names.
    """

    item: Input
    value: Path | BinaryIO
    manifest: Manifest
    verified: Verified | None
    key: KeyRef | None
    size_bytes: int
    column_keys: tuple[KeyRef, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def size_of(work: Work, item: Input) -> int:
    """Bytes that an input will take in scratch at most; 0 if nothing is there.

    Raises:
        SecureMLError: What lies there is no file and no directory of files; recorded.
    """
    store = work.desk.store(item.uri)
    try:
        info = store.info(item.uri)
        if info is None or item.stream:
            return 0
        return _scratch_bytes(store, item.uri, info)
    except FileNotFoundError:
        return 0
    except SecureMLError as error:
        work.journal.refused("object.verify", error, object=object_facts(item))
        raise


def _scratch_bytes(store: ObjectStore, uri: str, info: ObjectInfo) -> int:
    """What a copy takes; with column keys, one of what was signed and one of what is read."""
    with pin_artifact(store, uri) as artifact:
        first = next(iter(artifact.names()), None)
        if first is None:
            return 0
        with artifact.open(first) as pinned:
            copies = 2 if is_column_sealed(pinned.read_at(0, len(MAGIC))) else 1
    if not info.is_directory:
        return copies * info.size_bytes
    with store.open_directory(uri) as directory:
        return copies * sum(directory.size_of(name) for name in directory.names())


def open_input(
    work: Work,
    item: Input,
    target: Path,
    stack: contextlib.ExitStack,
    before_plaintext: Callable[[], None],
) -> OpenedInput:
    """Open one input into scratch, or as a stream; each act is recorded.

    Args:
        work: The run.
        item: What to open.
        target: Where in scratch; nothing is there yet.
        stack: Keeps a stream's object until the run ends.
        before_plaintext: Called once its statement was verified, right before a byte is opened.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded, and not yet durable.
    """
    with contextlib.ExitStack() as held:
        found = find_input(work, item, held)
        before_plaintext()
        since = work.journal.now()
        if item.stream:
            stack.enter_context(held.pop_all())
        try:
            opened = _open(work, found, target, stack)
        except (SecureMLError, FileNotFoundError) as error:
            refusal = as_refusal(item, error)
            act = "object.open" if found.sealed else "object.verify"
            work.journal.refused(act, refusal, object=object_facts(item), more=pin_facts(item))
            raise refusal from error.__cause__
        tell_opened(work, opened, since)
        return opened


def _open(work: Work, found: FoundInput, target: Path, stack: contextlib.ExitStack) -> OpenedInput:
    item, artifact = found.item, found.artifact
    if item.stream:
        return _open_stream(work, found, stack)
    files = [("", target)]
    if artifact.is_directory:
        target.mkdir(mode=0o700)
        files = [(name, target / name) for name in artifact.names()]
    if found.column_sealed:
        return _open_columns(work, found, files, target)
    # One alone: it looks up the data set's key for all of them.
    opened = [_open_file(work, found, *files[0])]
    opened += several(
        lambda file: _open_file(work, found, *file), files[1:], at_once=artifact.files_at_once
    )
    manifest = Manifest.of(entry for entry, _, _ in opened)
    key, size = opened[-1][1], sum(length for _, _, length in opened)
    return OpenedInput(
        item=item,
        value=target,
        manifest=manifest,
        verified=None if found.candidates is None else found.candidates.match(manifest),
        key=key,
        size_bytes=size,
    )


def _open_columns(
    work: Work, found: FoundInput, files: list[tuple[str, Path]], target: Path
) -> OpenedInput:
    assert found.candidates is not None
    for _, place in files:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = open_column_sealed(
        work,
        found.item,
        [Source(path=path, artifact=found.artifact, place=place) for path, place in files],
        target=target,
        made_for=found.object,
        keys=opening_keys(work.desk.keys),
        candidates=found.candidates,
    )
    return OpenedInput(
        item=found.item,
        value=target,
        manifest=opened.manifest,
        verified=opened.verified,
        key=opened.key,
        size_bytes=opened.size_bytes,
        column_keys=opened.column_keys,
        left_out=opened.left_out,
    )


def _open_file(
    work: Work, found: FoundInput, path: str, place: Path
) -> tuple[Entry, KeyRef | None, int]:
    """Open or copy one file into scratch, its digest taken in the same pass."""
    scratch = work.desk.scratch_store
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        found.artifact.open(path) as pinned,
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
            digest_algorithm="sha256" if found.candidates is None else found.candidates.algorithm,
            threads=DEFAULT_THREADS if found.artifact.files_at_once == 1 else 1,
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


def _open_stream(work: Work, found: FoundInput, stack: contextlib.ExitStack) -> OpenedInput:
    """A reader over the sealed object; its digest is checked before a byte is handed out.

    One pin for both: what was digested is what is read.
    """
    item = found.item
    if not found.sealed or found.candidates is None:
        raise FormatError(
            f"{item.name}: {item.uri} is plain; a stream decrypts as it reads, so drop stream=True"
        )
    if found.artifact.is_directory:
        raise FormatError(f"{item.name}: {item.uri} is a directory; a stream is of one file")
    pinned = stack.enter_context(found.artifact.open(""))
    # The reader first: it keeps header and key, so what is written there after the digest was
    # taken does not open with them.
    reader = SealedReader(
        pinned,
        keys=found.keys,
        expect={"object": found.object, **item.context},
        state_of=work.desk.keys.state_of,
    )
    stack.callback(reader.close)
    digest = digest_payload(pinned, digest_algorithm=found.candidates.algorithm)
    if digest.core_id != reader.core_id:
        raise IntegrityError(f"{item.name}: {item.uri} was overwritten while it was read")
    entry = Entry(
        path="",
        size_bytes=digest.payload_bytes,
        digest=Digest.parse(digest.payload_digest),
        core_id=digest.core_id.hex(),
    )
    manifest = Manifest.of([entry])
    verified = found.candidates.match(manifest)
    return OpenedInput(
        item=item,
        value=cast("BinaryIO", reader),
        manifest=manifest,
        verified=verified,
        key=reader.key,
        size_bytes=reader.size_bytes,
    )


def tell_opened(work: Work, opened: OpenedInput, since: float) -> None:
    item, journal, verified = opened.item, work.journal, opened.verified
    facts = {
        **object_facts(item),
        "digest": opened.manifest.digest,
        "bytes": opened.size_bytes,
    }
    signers: list[str] = []
    if verified is not None:
        signers = [str(ref) for ref in verified.signers[:MAX_LISTED]]
        suites = [suite.name for suite in verified.suites[:MAX_LISTED]]
        more = {"signers": signers, "suites": suites or None, **pin_facts(item)}
        journal.did("object.verify", object=facts, more=more)
    if opened.key is not None:
        signer = signers[0] if signers else None
        journal.did(
            "object.open",
            since=since,
            object=facts,
            key=key_facts(opened.key),
            more={"signer": signer, "stream": item.stream or None},
        )
    for ref in opened.column_keys:
        journal.did("object.open", since=since, object=facts, key=key_facts(ref))
    took = round((journal.now() - since) * 1000)
    by = f", signed by {', '.join(signers)}" if signers else ", not signed"
    word = "opened" if opened.key is not None else "read plain"
    journal.tell(f"{word} {item.name}: {in_words(opened.size_bytes)} in {took} ms{by}")
    for column, key in opened.left_out:
        journal.tell(f"left out column {column} of {item.name}: it is under key {key}")
