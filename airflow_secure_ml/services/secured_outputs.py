"""Check what a body wrote and seal it aside, where nobody sees it yet.

`services.secured_publishing` signs it and makes it visible, once all outputs of a run are complete.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import (
    DirectoryWriter,
    KeyRef,
    KeyWrapper,
    ObjectStore,
    ObjectWriter,
)
from airflow_secure_ml.core.validation import ValidationReport
from airflow_secure_ml.errors import (
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
)
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.made_outputs import files_below, identity_of, kind_of
from airflow_secure_ml.services.parquet_outputs import column_keys, data_files, tell_columns
from airflow_secure_ml.services.parquet_sealing import ColumnKeys, seal_parquet
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.promised_outputs import (
    context_of,
    key_name,
    output_facts,
    wrappers_of,
)
from airflow_secure_ml.services.run_plan import Output
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealing import DEFAULT_THREADS, seal_object
from airflow_secure_ml.services.secured_validation import check_table
from airflow_secure_ml.services.several import several


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An output that is complete and not yet visible.

    Attributes:
        item: What was declared.
        store: Where it goes.
        writer: What `commit` makes visible: a DirectoryWriter for a directory.
        is_directory: Whether it is one.
        manifest: What it consists of.
        key: What it was sealed to; None: plain.
        plaintext_bytes: Length of what the body wrote.
        column_keys: What Parquet columns with keys of their own were sealed to.
        report: The verdict on it, if it was held against expectations.
    """

    item: Output
    store: ObjectStore
    writer: ObjectWriter | DirectoryWriter
    is_directory: bool
    manifest: Manifest
    key: KeyRef | None
    plaintext_bytes: int
    report: ValidationReport | None
    column_keys: Sequence[KeyRef] = ()

    @property
    def facts(self) -> dict[str, object]:
        """The object as events name it."""
        return {
            "name": self.item.name,
            "uri": self.item.uri,
            "digest": self.manifest.digest,
            "bytes": self.plaintext_bytes,
            "rows": None if self.report is None else self.report.rows,
        }


def stage_output(work: Work, item: Output, made: Path, stack: contextlib.ExitStack) -> Staged:
    """Validate and seal what the body made, aside; nothing is visible yet.

    Args:
        work: The run.
        item: What was declared.
        made: Where the body was told to make it.
        stack: Aborts what is staged unless it is committed.

    Raises:
        SecureMLError: It is missing, is no file or directory, failed its expectations, or could
            not be sealed; recorded.
    """
    try:
        kind = kind_of(item, made)
    except SecureMLError as error:
        work.journal.refused("object.seal", error, object=output_facts(item))
        raise
    before = identity_of(made)
    report = None
    if item.suite is not None:
        report = check_table(work, item.name, made, item.suite, output_facts(item)).report
    since = work.journal.now()
    try:
        stage = _stage_directory if kind == "directory" else _stage_file
        staged = stage(work, item, made, stack, report)
        if identity_of(made) != before:
            raise IntegrityError(
                f"{item.name}: it was still written while it was validated and sealed; let the "
                "body wait for its threads and children"
            )
    except SecureMLError as error:
        work.journal.refused("object.seal", error, object=output_facts(item))
        raise
    if staged.key is not None:
        work.journal.did("object.seal", since=since, object=staged.facts, key=key_facts(staged.key))
        tell_columns(work, staged.facts, staged.column_keys, since)
    took = round((work.journal.now() - since) * 1000)
    how = f"sealed to {staged.key}" if staged.key is not None else "left plain"
    work.journal.tell(f"{how} {item.name}: {in_words(staged.plaintext_bytes)} in {took} ms")
    return staged


def _file_keys(
    work: Work, item: Output, stack: contextlib.ExitStack
) -> list[KeyWrapper] | ColumnKeys:
    """What each file is sealed with; empty: it is not."""
    if not item.columns:
        return wrappers_of(work, item)
    return stack.enter_context(column_keys(work, item, key_name(work, item)))


def _stage_file(
    work: Work,
    item: Output,
    made: Path,
    stack: contextlib.ExitStack,
    report: ValidationReport | None,
) -> Staged:
    store = work.desk.store(item.uri)
    writer = stack.enter_context(store.create(item.uri))
    keys = _file_keys(work, item, stack)
    context = {**context_of(work, item), "object": item.uri}
    entry, size, key = _write_file(work, made, writer, "", keys, context)
    return Staged(
        item=item,
        store=store,
        writer=writer,
        is_directory=False,
        manifest=Manifest.of([entry]),
        key=key,
        column_keys=keys.column_refs if isinstance(keys, ColumnKeys) else (),
        plaintext_bytes=size,
        report=report,
    )


def _stage_directory(
    work: Work,
    item: Output,
    made: Path,
    stack: contextlib.ExitStack,
    report: ValidationReport | None,
) -> Staged:
    """Seal file by file under a key of the directory's own."""
    store = work.desk.store(item.uri)
    directory = stack.enter_context(store.create_directory(item.uri))
    below = _file_keys(work, item, stack)
    dataset: KeyWrapper | None = None
    shared = {**context_of(work, item), "dataset": item.uri}
    if below and not isinstance(below, ColumnKeys):
        dataset = create_dataset_key(
            DirectoryAsStore(directory),  # type: ignore[arg-type] # the two methods that it needs
            item.uri,
            keys=below,
            context=shared,
        )
        below = [dataset]
    threads = DEFAULT_THREADS if directory.files_at_once == 1 else 1

    def stage(file: tuple[str, Path]) -> tuple[Entry, int]:
        path, place = file
        context = {**shared, "object": store.child(item.uri, path)}
        with create_below(item, directory, path) as writer:
            entry, length, _ = _write_file(work, place, writer, path, below, context, threads)
            writer.commit(replace=False)
        return entry, length

    files = files_below(item, made)
    if item.columns:
        files = data_files(work, item, files)
    staged = several(stage, list(files), at_once=directory.files_at_once)
    if not staged:
        raise PolicyError(
            f"{item.name}: the body made an empty directory; write at least one file into it",
            why="output_missing",
        )
    return Staged(
        item=item,
        store=store,
        writer=directory,
        is_directory=True,
        manifest=Manifest.of(entry for entry, _ in staged),
        key=below.ref if isinstance(below, ColumnKeys) else _ref(dataset),
        column_keys=below.column_refs if isinstance(below, ColumnKeys) else (),
        plaintext_bytes=sum(length for _, length in staged),
        report=report,
    )


def _ref(key: KeyWrapper | None) -> KeyRef | None:
    return None if key is None else key.ref


def create_below(item: Output, directory: DirectoryWriter, path: str) -> ObjectWriter:
    try:
        return directory.create(path)
    except FormatError as error:
        raise PolicyError(f"{item.name}: {error}", why="output_unexpected") from error


class DirectoryAsStore:
    """A directory that is being built, as the store of a data-set key's header."""

    def __init__(self, directory: DirectoryWriter) -> None:
        self._directory = directory

    def child(self, uri: str, relative: str) -> str:
        return relative

    def create(self, uri: str) -> ObjectWriter:
        return self._directory.create(uri)


def _write_file(
    work: Work,
    made: Path,
    writer: ObjectWriter,
    path: str,
    keys: list[KeyWrapper] | ColumnKeys,
    context: dict[str, str],
    threads: int = DEFAULT_THREADS,
) -> tuple[Entry, int, KeyRef | None]:
    """Returns its entry, its plaintext's length, and the key version that opens it."""
    scratch = work.desk.scratch_store
    with scratch.open(scratch.canonical(str(made))) as pinned:
        if isinstance(keys, ColumnKeys):
            entry = seal_parquet(pinned, writer, keys=keys, path=path)
            return entry, pinned.size_bytes, keys.ref
        if not keys:
            entry = copy_plain(pinned, writer, path)
            return entry, entry.size_bytes, None
        sealed = seal_object(pinned, writer, keys=keys, context=context, threads=threads)
    assert sealed.payload_digest is not None
    entry = Entry(
        path=path,
        size_bytes=sealed.payload_bytes,
        digest=Digest.parse(sealed.payload_digest),
        core_id=sealed.core_id.hex(),
    )
    return entry, sealed.plaintext_bytes, sealed.key
