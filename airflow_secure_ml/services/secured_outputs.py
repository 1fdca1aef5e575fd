"""Check what a body wrote and seal it aside, where nobody sees it yet.

`services.secured_publishing` signs it and makes it visible, once all outputs of a run are complete.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
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
from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.core.validation import ValidationReport
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
)
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.key_choice import sealing_keys
from airflow_secure_ml.services.parquet_outputs import column_keys, data_files, tell_columns
from airflow_secure_ml.services.parquet_sealing import ColumnKeys, seal_parquet
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.run_plan import Output
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealing import DEFAULT_THREADS, seal_object
from airflow_secure_ml.services.secured_validation import check_table
from airflow_secure_ml.services.several import several
from airflow_secure_ml.services.signing import check_may_replace

_OURS, _STATEMENTS = "_asml", ".sig"


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


def check_output(work: Work, item: Output) -> None:
    """Refuse an output before the body runs, if it could not be published after it.

    Raises:
        SecureMLError: A rule denies it, or its keys are not to be had; recorded.
    """
    desk, journal = work.desk, work.journal
    if desk.rules is not None:
        key = _key_name(work, item) if item.sealed else None
        work.obey(desk.rules.decide_write(item.uri, key=key, today=work.today), "write", item.name)
    try:
        _check_name(item)
        if item.columns:
            column_keys(work, item, _key_name(work, item))
        elif item.sealed:
            wrappers_of(work, item)
        desk.keys.signer(desk.signing_key)
        check_is_replaceable(work, item)
    except SecureMLError as error:
        act = "object.publish" if error.why == "address_taken" else "object.seal"
        journal.refused(act, error, object=output_facts(item))
        raise


def _check_name(item: Output) -> None:
    """Keep the names of statements and of a directory's keys for them."""
    for part in item.uri.split("/"):
        if part == _OURS or part.endswith(_STATEMENTS):
            raise ConfigurationError(
                f"{item.name}: {item.uri} holds {part!r}, and names with {_STATEMENTS} or "
                f"{_OURS} are kept for statements and keys; choose another"
            )


def check_outputs_apart(work: Work, items: Sequence[Output]) -> None:
    """Refuse outputs of one run of which one would replace another, or lie in it.

    Raises:
        ConfigurationError: Two addresses are the same, or one is below the other; recorded.
    """
    for at, one in enumerate(items):
        for other in items[:at]:
            first, second = f"{other.uri}/", f"{one.uri}/"
            if first.startswith(second) or second.startswith(first):
                error = ConfigurationError(
                    f"{one.name}: its address {one.uri} and that of {other.name}, {other.uri}, "
                    "are one place; give each output its own"
                )
                work.journal.refused("object.publish", error, object=output_facts(one))
                raise error


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
        kind = _check_made(item, made)
    except SecureMLError as error:
        work.journal.refused("object.seal", error, object=output_facts(item))
        raise
    before = _identity(made)
    report = None
    if item.suite is not None:
        report = check_table(work, item.name, made, item.suite, output_facts(item)).report
    since = work.journal.now()
    try:
        stage = _stage_directory if kind == "directory" else _stage_file
        staged = stage(work, item, made, stack, report)
        if _identity(made) != before:
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


def producer_of(work: Work) -> Producer:
    """The task that a run is, as statements name it."""
    plan = work.plan
    return Producer(
        dag_id=plan.dag_id, task_id=plan.task_id, run_id=plan.run_id, map_index=plan.map_index
    )


def _key_name(work: Work, item: Output) -> str:
    rules = work.desk.rules
    return item.key or (rules and rules.key_for_write(item.uri)) or work.desk.data_key


def wrappers_of(work: Work, item: Output) -> list[KeyWrapper]:
    """Who shall be able to open it; empty: it is not sealed."""
    return sealing_keys(work.desk.keys, [_key_name(work, item)]) if item.sealed else []


def check_is_replaceable(work: Work, item: Output) -> None:
    """Return if nothing lies there, or what the same task wrote; PolicyError otherwise."""
    verifiers = work.desk.keys.verifiers({work.desk.signing_key})
    check_may_replace(work.desk.store(item.uri), item.uri, producer_of(work), verifiers)


def context_of(work: Work, item: Output) -> dict[str, str]:
    """What an output's encryption context and statement hold besides `object`."""
    plan = work.plan
    return {
        **item.context,
        "dag_id": plan.dag_id,
        "task_id": plan.task_id,
        "run_id": plan.run_id,
        "map_index": str(plan.map_index),
    }


def _identity(made: Path) -> tuple[int, int, int, int] | None:
    """What tells that a file is as it was; None: nothing is there any more."""
    try:
        found = os.lstat(made)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_made(item: Output, made: Path) -> str:
    """What the body made: `file` or `directory`, and nothing beside it."""
    if any(os.path.islink(folder) for folder in (made.parent, made.parent.parent)):
        raise PolicyError(
            f"{item.name}: the folder it was to be made in is a link now; write to the path that "
            "was given",
            why="output_outside",
        )
    try:
        mode = os.lstat(made).st_mode
    except FileNotFoundError as error:
        raise PolicyError(
            f"{item.name}: the body made nothing at the path it was given; write a file or make "
            "a directory exactly there",
            why="output_missing",
        ) from error
    beside = sorted(set(os.listdir(made.parent)) - {made.name})
    if beside:
        raise PolicyError(
            f"{item.name}: the body made {len(beside)} more beside the path it was given; write "
            "one file there, or make a directory of that name and write into it",
            why="output_unexpected",
        )
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    raise PolicyError(
        f"{item.name}: expected a file or a directory, found a link, device or pipe; copy the "
        "data itself",
        why="output_outside",
    )


def _file_keys(
    work: Work, item: Output, stack: contextlib.ExitStack
) -> list[KeyWrapper] | ColumnKeys:
    """What each file is sealed with; empty: it is not."""
    if not item.columns:
        return wrappers_of(work, item)
    return stack.enter_context(column_keys(work, item, _key_name(work, item)))


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

    files = _walk(item, made)
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


def _walk(item: Output, made: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file that the body made; links and devices are refused."""
    if os.path.lexists(made / _OURS):
        raise PolicyError(
            f"{item.name}: its directory holds {_OURS!r}, a name that is kept for the keys of a "
            "sealed directory; use another",
            why="output_unexpected",
        )
    for folder, folders, files in os.walk(made, onerror=_raise):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if os.path.islink(Path(folder, f)))]):
            place = Path(folder, name)
            if not stat.S_ISREG(os.lstat(place).st_mode):
                raise PolicyError(
                    f"{item.name}: its directory holds a link, device or pipe; copy the data "
                    "itself",
                    why="output_outside",
                )
            yield place.relative_to(made).as_posix(), place


def _raise(error: OSError) -> None:
    raise error


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


def output_facts(item: Output) -> dict[str, object]:
    return {"name": item.name, "uri": item.uri}
