"""Open an input whose Parquet columns have keys of their own.

Every file is copied into scratch as it is and held against the signed manifest; only then a byte
of any of them is parsed, and what is parsed is the copy.

Source: docs/parquet.md, Reading; SEALED_FILE_FORMAT, Parquet Modular Encryption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.parquet.key_material import KeyMaterial
from airflow_secure_ml.core.parquet.layout import SEALED_MAGIC
from airflow_secure_ml.core.ports import KeyRef, KeyWrapper, PinnedObject
from airflow_secure_ml.errors import FormatError, PolicyError, SecureMLError
from airflow_secure_ml.services.artifact import Artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import (
    Columns,
    choose,
    open_columns,
    read_columns,
)
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.signing import Candidates, Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedColumns:
    """What came of it.

    Attributes:
        manifest: What was read.
        verified: The statements that stand for it.
        key: The version that opened the footers.
        column_keys: The versions that opened columns with keys of their own, each once.
        size_bytes: Length of the plain files.
        left_out: Columns that this reader may not open, with their keys' names.
    """

    manifest: Manifest
    verified: Verified
    key: KeyRef
    column_keys: tuple[KeyRef, ...]
    size_bytes: int
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of the input: its relative name, what it is part of, where its plain form goes."""

    path: str
    artifact: Artifact
    place: Path


def is_column_sealed(first_bytes: bytes) -> bool:
    """Whether a file begins as an encrypted Parquet file does."""
    return first_bytes[: len(SEALED_MAGIC)] == SEALED_MAGIC


def check_declared(item: Input, column_sealed: bool) -> None:
    """Refuse options that do not go with what lies there.

    Raises:
        FormatError: `columns=` for another file, or stream=True for one with column keys.
        PolicyError: A quarantine, which would lie under one key for all columns.
    """
    if item.columns and not column_sealed:
        raise FormatError(
            f"{item.name}: columns= opens columns that have keys of their own, and {item.uri} has "
            "none; leave columns= out, and read parts of it with stream=True"
        )
    if column_sealed and item.stream:
        raise FormatError(
            f"{item.name}: the columns of {item.uri} have keys of their own, and such a file is "
            "not streamed; drop stream=True, or write it without columns="
        )
    if column_sealed and item.quarantine is not None:
        raise PolicyError(
            f"{item.name}: rows of {item.uri} that fail would lie in quarantine under one key for "
            "all columns; drop quarantine=",
            why="key_not_allowed",
        )


def open_column_sealed(
    work: Work,
    item: Input,
    sources: Sequence[Source],
    *,
    target: Path,
    made_for: str,
    keys: Sequence[KeyWrapper],
    candidates: Candidates,
) -> OpenedColumns:
    """Verify all files of an input, then decrypt what this reader may read.

    Args:
        work: The run.
        item: What was asked for.
        sources: Its files.
        target: Where it goes in scratch: a file, or the directory of the files.
        made_for: The address that its keys are bound to.
        keys: The reader's list.
        candidates: Statements that may stand for it.

    Raises:
        SecureMLError: Not what was signed, altered, or under a key that this reader may not use.
    """
    # Beside the input, not in it, where a file may have any name.
    copies = [target.with_name(f"{target.name}.sealed-{n}") for n in range(len(sources))]
    try:
        entries = [
            _copy(work, source, copy, candidates.algorithm)
            for source, copy in zip(sources, copies, strict=True)
        ]
        manifest = Manifest.of(entries)
        verified = candidates.match(manifest)
        reader = ReaderKeys(
            made_for,
            keys,
            forbids=lambda material: forbidden(work, item, material),
            state_of=work.desk.keys.state_of,
        )
        with reader:
            run = _Run(work, item, reader)
            size = run.open(list(zip(copies, sources, strict=True)))
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)
    assert run.key is not None
    return OpenedColumns(
        manifest=manifest,
        verified=verified,
        key=run.key,
        column_keys=tuple(run.column_keys),
        size_bytes=size,
        left_out=tuple(run.left_out),
    )


class _Run:
    """The files of one input, one after another, with the same keys."""

    def __init__(self, work: Work, item: Input, keys: ReaderKeys) -> None:
        self._work, self._item, self._keys = work, item, keys
        self.key: KeyRef | None = None
        # In the order in which they came; a dict is an ordered set.
        self.column_keys: dict[KeyRef, None] = {}
        self.left_out: dict[tuple[str, str], None] = {}

    def open(self, files: Sequence[tuple[Path, Source]]) -> int:
        """Decrypt verified copies to their places; returns the plain length of all."""
        sizes = [self._open(*file) for file in files]
        late = [file for file, size in zip(files, sizes, strict=True) if size is None]
        sizes += [self._open(*file, may_wait=False) for file in late]
        return sum(size for size in sizes if size is not None)

    def _open(self, copy: Path, source: Source, *, may_wait: bool = True) -> int | None:
        """Decrypt one; None: it has no rows, and waits."""
        scratch = self._work.desk.scratch_store
        try:
            with scratch.open(scratch.canonical(str(copy))) as pinned:
                columns = read_columns(pinned, self._keys)
                # Without rows it says of no column that it has a key. Readers take the columns of
                # all files from any one of them, so it gets those of the others.
                if may_wait and not columns.has_rows:
                    return None
                chosen = choose(columns, self._item.columns)
                hidden = {name for name, _ in self.left_out}
                keep = [name for name in chosen if name not in hidden]
                size = self._write(pinned, source, columns, keep)
        except SecureMLError as error:
            name = f"{self._item.name}: {source.path}" if source.path else self._item.name
            raise type(error)(f"{name}: {error}", why=error.why) from error
        copy.unlink()
        self.key = columns.key
        self._note(columns, keep)
        return size

    def _write(
        self, pinned: PinnedObject, source: Source, columns: Columns, keep: list[str]
    ) -> int:
        scratch = self._work.desk.scratch_store
        with scratch.create(scratch.canonical(str(source.place))) as writer:
            size = open_columns(
                pinned,
                writer,
                columns,
                self._keys,
                keep=keep,
                arrow_fields=self._work.desk.arrow_fields,
            )
            writer.commit(replace=False)
        return size

    def _note(self, columns: Columns, keep: list[str]) -> None:
        """Keep in mind which keys opened columns, and which columns none did."""
        for name, material in columns.own.items():
            if name in keep:
                self.column_keys[self._keys.kek(material).ref] = None
            elif name in columns.denied:
                self.left_out[name, material.key_name] = None


def _copy(work: Work, source: Source, copy: Path, algorithm: str) -> Entry:
    scratch = work.desk.scratch_store
    with (
        source.artifact.open(source.path) as pinned,
        scratch.create(scratch.canonical(str(copy))) as writer,
    ):
        entry = copy_plain(pinned, writer, source.path, algorithm=algorithm)
        writer.commit(replace=False)
    return entry


def forbidden(work: Work, item: Input, material: KeyMaterial) -> PolicyError | None:
    """What the platform team's rules say."""
    rules = work.desk.rules
    if rules is None:
        return None
    if material.is_footer:
        only = rules.key_for_write(item.uri)
        if only is None or only == material.key_name:
            return None
        denial: str | None = f"{item.uri}: key {material.key_name}, only {only} is allowed here"
    else:
        denial = rules.column_denial(item.uri, material.key_name, opened_by=work.plan.dag_id)
    return None if denial is None else PolicyError(denial, why="key_not_allowed")
