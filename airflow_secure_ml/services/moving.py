"""Take an artifact from one address to another, file by file and piece by piece.

Plaintext is in memory alone, a few pieces at a time, whatever the length: nothing is opened into
scratch. A signed statement is found and verified before a key is used, and nothing becomes visible
before what was read is what that statement names.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import DirectoryWriter, KeyRef, KeyWrapper, ObjectWriter
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import (
    FoundInput,
    as_refusal,
    find_input,
    object_facts,
    pin_facts,
)
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.passing import (
    Passing,
    copy_stream,
    pass_opened,
    pass_plain,
)
from airflow_secure_ml.services.promised_outputs import context_of, output_facts, wrappers_of
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.services.secured_inputs import OpenedInput, tell_opened
from airflow_secure_ml.services.secured_outputs import DirectoryAsStore, Staged, create_below


@dataclass(slots=True, kw_only=True)
class _Move:
    """One artifact on its way.

    Attributes:
        read: Entries of what was read.
        written: Entries of what was staged.
        opened_with: The key that opened it; None: plain.
        sealed_to: The key version it was sealed to; None: plain.
        size_bytes: Length of the plaintext so far.
    """

    work: Work
    found: FoundInput
    item: Output
    read: list[Entry] = field(default_factory=list)
    written: list[Entry] = field(default_factory=list)
    opened_with: KeyRef | None = None
    sealed_to: KeyRef | None = None
    size_bytes: int = 0


def stage_move(work: Work, source: Input, target: Output, stack: contextlib.ExitStack) -> Staged:
    """Read, open and seal an artifact aside; nothing is visible yet.

    Args:
        work: The run.
        source: What is taken.
        target: Where it goes; `check_output` found that it may.
        stack: Aborts what is staged unless it is committed.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded, and not yet durable.
    """
    with contextlib.ExitStack() as held:
        found = find_input(work, source, held)
        since = work.journal.now()
        move = _Move(work=work, found=found, item=target)
        with _recording(work, source, target, found.sealed) as reading:
            with reading():
                _check_movable(found)
            staged = _stage(move, stack, reading)
            with reading():
                opened = _opened(move)
    tell_opened(work, opened, since)
    if staged.key is not None:
        work.journal.did("object.seal", since=since, object=staged.facts, key=key_facts(staged.key))
    how = f"sealed to {staged.key}" if staged.key is not None else "left plain"
    work.journal.tell(f"{how} {target.name}: {in_words(staged.plaintext_bytes)}, piece by piece")
    return staged


def _check_movable(found: FoundInput) -> None:
    # Parquet is read from its end, and a reader may be let see some of its columns alone.
    if found.column_sealed:
        raise ConfigurationError(
            f"{found.item.name}: {found.item.uri} is Parquet with keys of its columns, which are "
            "not moved piece by piece; read it with Reads and write it with Writes in a task"
        )


class _Reading:
    """Tells what went wrong in reading from what went wrong in writing."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.failed = error
            raise


@contextmanager
def _recording(work: Work, source: Input, target: Output, sealed: bool) -> Iterator[_Reading]:
    """Record a refusal as the input's or the output's."""
    reading = _Reading()
    try:
        yield reading
    except (SecureMLError, FileNotFoundError) as error:
        if isinstance(error, SecureMLError) and error is not reading.failed:
            work.journal.refused("object.seal", error, object=output_facts(target))
            raise
        refusal = as_refusal(source, error)
        act = "object.open" if sealed else "object.verify"
        work.journal.refused(act, refusal, object=object_facts(source), more=pin_facts(source))
        raise refusal from error.__cause__


def _stage(move: _Move, stack: contextlib.ExitStack, reading: _Reading) -> Staged:
    work, item = move.work, move.item
    store = work.desk.store(item.uri)
    keys = wrappers_of(work, item)
    writer: ObjectWriter | DirectoryWriter
    if move.found.artifact.is_directory:
        writer = stack.enter_context(store.create_directory(item.uri))
        _move_directory(move, writer, keys, reading)
    else:
        writer = stack.enter_context(store.create(item.uri))
        context = {**context_of(work, item), "object": item.uri}
        _move_file(move, "", writer, keys, context, reading)
    return Staged(
        item=item,
        store=store,
        writer=writer,
        is_directory=move.found.artifact.is_directory,
        manifest=Manifest.of(move.written),
        key=move.sealed_to,
        plaintext_bytes=move.size_bytes,
        report=None,
    )


def _move_directory(
    move: _Move, directory: DirectoryWriter, keys: list[KeyWrapper], reading: _Reading
) -> None:
    """File by file, sealed under a key of the directory's own."""
    item = move.item
    shared = {**context_of(move.work, item), "dataset": item.uri}
    dataset: KeyWrapper | None = None
    if keys:
        dataset = create_dataset_key(
            DirectoryAsStore(directory),  # type: ignore[arg-type] # the two methods it needs
            item.uri,
            keys=keys,
            context=shared,
        )
    store = move.work.desk.store(item.uri)
    for path in move.found.artifact.names():
        context = {**shared, "object": store.child(item.uri, path)}
        below = [] if dataset is None else [dataset]
        with create_below(item, directory, path) as writer:
            _move_file(move, path, writer, below, context, reading)
            writer.commit(replace=False)
    move.sealed_to = None if dataset is None else dataset.ref


def _move_file(
    move: _Move,
    path: str,
    writer: ObjectWriter,
    keys: list[KeyWrapper],
    context: Mapping[str, str],
    reading: _Reading,
) -> None:
    with contextlib.ExitStack() as held:
        with reading():
            passing = held.enter_context(_passing(move.found, path, move.work, held))
        entry, sealed_to = _write(passing, path, writer, keys, context)
        # Before the writer's commit: what could not be read whole has only ended early by now.
        with reading():
            passed = passing.finish()
    move.written.append(entry)
    move.read.append(passed.entry)
    move.opened_with = passed.key or move.opened_with
    move.sealed_to = sealed_to or move.sealed_to
    move.size_bytes += passed.size_bytes


def _write(
    passing: Passing,
    path: str,
    writer: ObjectWriter,
    keys: list[KeyWrapper],
    context: Mapping[str, str],
) -> tuple[Entry, KeyRef | None]:
    if not keys:
        return copy_stream(passing.stream, writer, path, algorithm="sha256"), None
    sealed = seal_object(passing.stream, writer, keys=keys, context=context)
    assert sealed.payload_digest is not None
    entry = Entry(
        path=path,
        size_bytes=sealed.payload_bytes,
        digest=Digest.parse(sealed.payload_digest),
        core_id=sealed.core_id.hex(),
    )
    return entry, sealed.key


def _passing(
    found: FoundInput, path: str, work: Work, held: contextlib.ExitStack
) -> AbstractContextManager[Passing]:
    pinned = held.enter_context(found.artifact.open(path))
    algorithm = "sha256" if found.candidates is None else found.candidates.algorithm
    if not found.sealed:
        return pass_plain(pinned, path, algorithm=algorithm)
    original = found.store.child(found.object, path) if path else found.object
    return pass_opened(
        pinned,
        path,
        keys=found.keys,
        expect={"object": original, **found.item.context},
        state_of=work.desk.keys.state_of,
        algorithm=algorithm,
    )


def _opened(move: _Move) -> OpenedInput:
    """What was read, if it is what a statement names."""
    found, manifest = move.found, Manifest.of(move.read)
    return OpenedInput(
        item=found.item,
        value=Path(),
        manifest=manifest,
        verified=None if found.candidates is None else found.candidates.match(manifest),
        key=move.opened_with,
        size_bytes=move.size_bytes,
    )
