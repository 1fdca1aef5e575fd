"""Seal what a body wrote, sign it, and publish all of it together.

Everything is sealed aside first; statements are published before objects, so that no reader meets
new bytes with an old statement; each object appears by one rename.

Source: SECURE_TASK, "Order, whatever happens"; API, Signatures and Overwriting.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
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
from airflow_secure_ml.core.statement import Producer, Statement, Suite
from airflow_secure_ml.core.validation import ValidationReport
from airflow_secure_ml.errors import PolicyError, SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.plain import copy_plain
from airflow_secure_ml.services.run_plan import Output
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.services.secured_validation import check_table
from airflow_secure_ml.services.signing import check_may_replace, sign_artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An output that is complete and not yet visible.

    Attributes:
        item: What was declared.
        store: Where it goes.
        writer: What `commit` makes visible.
        manifest: What it consists of.
        key: What it was sealed to; None: plain.
        plaintext_bytes: Length of what the body wrote.
        report: The verdict on it, if it was held against expectations.
    """

    item: Output
    store: ObjectStore
    writer: ObjectWriter | DirectoryWriter
    manifest: Manifest
    key: KeyRef | None
    plaintext_bytes: int
    report: ValidationReport | None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An output that readers can see.

    Attributes:
        staged: What was published.
        signer: Who signed it.
        version: The store's name for it.
        event: Name of the event that says so.
    """

    staged: Staged
    signer: KeyRef
    version: str
    event: str


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
        if item.sealed:
            _wrapper(work, item)
        desk.keys.signer(desk.signing_key)
        _check_may_replace(work, item)
    except SecureMLError as error:
        act = "object.publish" if error.why == "address_taken" else "object.seal"
        journal.refused(act, error, object=_object(item))
        raise


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
        work.journal.refused("object.seal", error, object=_object(item))
        raise
    report = None
    if item.suite is not None:
        report = check_table(work, item.name, made, item.suite, _object(item)).report
    since = work.journal.now()
    try:
        stage = _stage_directory if kind == "directory" else _stage_file
        staged = stage(work, item, made, stack, report)
    except SecureMLError as error:
        work.journal.refused("object.seal", error, object=_object(item))
        raise
    if staged.key is not None:
        work.journal.did("object.seal", since=since, object=staged.facts, key=key_facts(staged.key))
    took = round((work.journal.now() - since) * 1000)
    how = f"sealed to {staged.key}" if staged.key is not None else "left plain"
    work.journal.tell(f"{how} {item.name}: {in_words(staged.plaintext_bytes)} in {took} ms")
    return staged


def publish(work: Work, staged: list[Staged], refuse_if_stopped: object) -> list[Published]:
    """Sign and publish staged outputs, once what will be published is durable in the trail.

    Args:
        work: The run.
        staged: What is complete.
        refuse_if_stopped: Called without arguments right before; raises if this try must not.

    Raises:
        SecureMLError: Refused, or another system failed; recorded.
    """
    assert callable(refuse_if_stopped)
    desk, journal = work.desk, work.journal
    intents = []
    signer = desk.keys.signer(desk.signing_key)
    for one in staged:
        journal_more = {"signer": str(signer.ref)}
        intents.append(journal.intend("object.publish", object=one.facts, more=journal_more))
    journal.settle()
    refuse_if_stopped()
    for one in staged:
        _check_may_replace(work, one.item)
        sign_artifact(one.store, _statement(work, one), signer)
        journal.did("object.sign", object=one.facts, key=key_facts(signer.ref))
    done = []
    for one, intent in zip(staged, intents, strict=True):
        try:
            version = one.writer.commit(replace=True)
        except SecureMLError as error:
            journal.refused("object.publish", error, of=intent, object=one.facts)
            raise
        event = journal.did("object.publish", of=intent, object={**one.facts, "version": version})
        journal.tell(f"published {one.item.name}: {one.item.uri}, signed by {signer.ref}")
        done.append(Published(staged=one, signer=signer.ref, version=version, event=event))
    return done


def producer_of(work: Work) -> Producer:
    """The task that a run is, as statements name it."""
    plan = work.plan
    return Producer(
        dag_id=plan.dag_id, task_id=plan.task_id, run_id=plan.run_id, map_index=plan.map_index
    )


def _key_name(work: Work, item: Output) -> str:
    rules = work.desk.rules
    return item.key or (rules and rules.key_for_write(item.uri)) or work.desk.data_key


def _wrapper(work: Work, item: Output) -> KeyWrapper:
    return work.desk.keys.wrapper(_key_name(work, item))


def _check_may_replace(work: Work, item: Output) -> None:
    verifiers = work.desk.keys.verifiers({work.desk.signing_key})
    check_may_replace(work.desk.store(item.uri), item.uri, producer_of(work), verifiers)


def _context(work: Work, item: Output) -> dict[str, str]:
    plan = work.plan
    return {
        **item.context,
        "dag_id": plan.dag_id,
        "task_id": plan.task_id,
        "run_id": plan.run_id,
        "map_index": str(plan.map_index),
    }


def _statement(work: Work, staged: Staged) -> Statement:
    report = staged.report
    suites: tuple[Suite, ...] = ()
    if report is not None and report.passed:
        suites = (Suite(name=report.suite, digest=Digest.parse(report.suite_digest)),)
    return Statement(
        object=staged.item.uri,
        manifest=staged.manifest,
        act="write",
        signed_ms=work.desk.now_ms(),
        producer=producer_of(work),
        context={**_context(work, staged.item), "object": staged.item.uri},
        suites=suites,
    )


def _check_made(item: Output, made: Path) -> str:
    """What the body made: `file` or `directory`, and nothing beside it."""
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


def _stage_file(
    work: Work,
    item: Output,
    made: Path,
    stack: contextlib.ExitStack,
    report: ValidationReport | None,
) -> Staged:
    store = work.desk.store(item.uri)
    writer = stack.enter_context(store.create(item.uri))
    wrapper = _wrapper(work, item) if item.sealed else None
    context = {**_context(work, item), "object": item.uri}
    entry, size = _write_file(work, made, writer, "", wrapper, context)
    return Staged(
        item=item,
        store=store,
        writer=writer,
        manifest=Manifest.of([entry]),
        key=None if wrapper is None else wrapper.ref,
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
    wrapper = _wrapper(work, item) if item.sealed else None
    dataset: KeyWrapper | None = None
    shared = {**_context(work, item), "dataset": item.uri}
    if wrapper is not None:
        dataset = create_dataset_key(
            _Below(directory),  # type: ignore[arg-type] # the two methods that it needs
            item.uri,
            keys=[wrapper],
            context=shared,
        )
    entries, size = [], 0
    for path, place in _walk(item, made):
        context = {**shared, "object": store.child(item.uri, path)}
        with directory.create(path) as writer:
            entry, length = _write_file(work, place, writer, path, dataset, context)
            writer.commit(replace=False)
        entries.append(entry)
        size += length
    if not entries:
        raise PolicyError(
            f"{item.name}: the body made an empty directory; write at least one file into it",
            why="output_missing",
        )
    return Staged(
        item=item,
        store=store,
        writer=directory,
        manifest=Manifest.of(entries),
        key=None if wrapper is None else wrapper.ref,
        plaintext_bytes=size,
        report=report,
    )


class _Below:
    """A directory that is being built, as the store of a data-set key's header."""

    def __init__(self, directory: DirectoryWriter) -> None:
        self._directory = directory

    def child(self, uri: str, relative: str) -> str:
        return relative

    def create(self, uri: str) -> ObjectWriter:
        return self._directory.create(uri)


def _walk(item: Output, made: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file that the body made; links and devices are refused."""
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
    key: KeyWrapper | None,
    context: dict[str, str],
) -> tuple[Entry, int]:
    scratch = work.desk.scratch_store
    with scratch.open(scratch.canonical(str(made))) as pinned:
        if key is None:
            entry = copy_plain(pinned, writer, path)
            return entry, entry.size_bytes
        sealed = seal_object(pinned, writer, keys=[key], context=context)
    assert sealed.payload_digest is not None
    entry = Entry(
        path=path,
        size_bytes=sealed.payload_bytes,
        digest=Digest.parse(sealed.payload_digest),
        core_id=sealed.core_id.hex(),
    )
    return entry, sealed.plaintext_bytes


def _object(item: Output) -> dict[str, object]:
    return {"name": item.name, "uri": item.uri}
