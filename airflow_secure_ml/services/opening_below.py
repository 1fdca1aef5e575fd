"""Open every file of a sealed directory to another place: the way back.

The statement about the whole is verified first, and each file gets its name only once its digest
is the one signed. Interrupted anywhere and begun again it goes on with what is left: a file is
finished if it is noted as such and unchanged, or if opening it again gives the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import ObjectWriter, PinnedDirectory, PinnedObject
from airflow_secure_ml.core.sealed_file.context import AnyContext, Expected
from airflow_secure_ml.errors import (
    ConfigurationError,
    IntegrityError,
    ManifestMismatchError,
)
from airflow_secure_ml.services.opening_notes import Note, OpeningNotes
from airflow_secure_ml.services.sealed_header import ReaderKey, StateOf
from airflow_secure_ml.services.sealing import open_object
from airflow_secure_ml.services.tree_target import require_exactly, require_none_but, taken
from airflow_secure_ml.services.tree_work import (
    BATCH_BYTES,
    Pace,
    StoppedError,
    Tally,
    Tree,
    batches,
    in_threads,
    one_file,
    require_apart,
    require_directory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningKeys:
    """What opens the files.

    Attributes:
        readers: The reader's list, the data set's own among them.
        state_of: `KeySystem.state_of`, to say why no key opens.
        expect: Pairs that every file's context must hold, without `object`; or `ANY_CONTEXT`.
        original: The tree that the files were sealed as; another one for a copy.
    """

    readers: Sequence[ReaderKey]
    state_of: StateOf | None
    expect: Expected
    original: Tree

    def expected(self, path: str) -> Expected:
        """Of one file: its own address, so that two cannot be swapped."""
        if isinstance(self.expect, AnyContext):
            return self.expect
        return {**self.expect, "object": self.original.child(path)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A file to open.

    Attributes:
        path: Its relative name.
        size_bytes: Its length, sealed.
        is_there: Something lies where it goes: only bytes that are the same count as opened.
        replaces: Version of what was opened there from an older source; None: nothing is.
    """

    path: str
    size_bytes: int
    is_there: bool = False
    replaces: str | None = None


class OpeningBelow:
    """One sealed directory on its way to plain.

    Args:
        source: The sealed directory.
        target: Where it goes; what lies there must be of an earlier run of the same.
        keys: What opens it.
        said: Its verified manifest; None: whoever calls takes it unsigned.
        threads: 1 to 64.
        keep_going: Whether a file that cannot be opened leaves the others be.
        pace: Told of each step.

    Raises:
        ConfigurationError: The two places are not apart.
    """

    def __init__(
        self,
        source: Tree,
        target: Tree,
        *,
        keys: OpeningKeys,
        said: Manifest | None,
        threads: int,
        keep_going: bool = False,
        pace: Pace | None = None,
    ) -> None:
        require_apart(source, target)
        self._source, self._target, self._keys = source, target, keys
        self._threads, self._keep_going = threads, keep_going
        self._signed = None if said is None else {e.path: e for e in said.entries}
        self._notes = OpeningNotes(target)
        self.tally = Tally(pace=pace)

    def run(self) -> Tally:
        """Open what is left, compare the counts, and leave nothing but plain files.

        Returns:
            What came of it; files that failed for a reason of their own are in it.

        Raises:
            PolicyError: Something that an earlier run did not open lies there (address_taken).
            ManifestMismatchError: Other files lie at the source than were signed.
            SecureMLError: What fails all of it; what was opened stays, and is known.
        """
        require_directory(self._source)
        with (
            contextlib.suppress(StoppedError),
            self._source.store.open_directory(self._source.uri) as folder,
        ):
            names = folder.names()
            if not names:
                raise ConfigurationError(f"{self._source.uri}: expected sealed files, found none")
            _check_names(self._source, names, self._signed)
            self._notes.read()
            tasks = self._plan(folder)
            small = [task for task in tasks if task.size_bytes <= BATCH_BYTES]

            def open_small(batch: Sequence[_Task]) -> None:
                self._open_batch(folder, batch, 1)

            in_threads(open_small, list(batches(small, self._threads)), self._threads)
            for task in tasks:
                if task.size_bytes > BATCH_BYTES:
                    self._open_batch(folder, [task], self._threads)
            if not self.tally.failed:
                require_exactly(self._target, names)
                self._notes.remove()
        return self.tally

    def _plan(self, folder: PinnedDirectory) -> list[_Task]:
        names = folder.names()
        there = require_none_but(self._target, set(names))
        self.tally.files = len(names)
        self.tally.size_bytes = sum(map(folder.size_of, names))
        tasks: list[_Task] = []

        def look(path: str) -> None:
            size_bytes = folder.size_of(path)
            if path not in there:
                tasks.append(_Task(path=path, size_bytes=size_bytes))
                return
            with one_file(self.tally, path, keep_going=self._keep_going):
                found = self._look(folder, path)
                if isinstance(found, _Task):
                    tasks.append(found)
                else:
                    self.tally.was_done(found)

        in_threads(look, names, self._threads)
        return sorted(tasks, key=lambda task: task.path)

    def _look(self, folder: PinnedDirectory, path: str) -> _Task | int:
        """What is to be done about a file that is there; its length if it is finished."""
        with self._target.store.open(self._target.child(path)) as plain:
            made, plaintext_bytes = plain.version, plain.size_bytes
        with folder.open(path) as sealed:
            source = sealed.version
        note = self._notes.files.get(path)
        if note is not None and note.made == made:
            if note.source == source:
                return plaintext_bytes
            return _Task(path=path, size_bytes=folder.size_of(path), replaces=made)
        return _Task(path=path, size_bytes=folder.size_of(path), is_there=True)

    def _open_batch(self, folder: PinnedDirectory, tasks: Sequence[_Task], threads: int) -> None:
        notes: list[Note] = []
        try:
            for task in tasks:
                with one_file(self.tally, task.path, keep_going=self._keep_going):
                    act = self._compare if task.is_there else self._open
                    notes.append(act(folder, task, threads))
        finally:
            self._notes.add(notes)

    def _open(self, folder: PinnedDirectory, task: _Task, threads: int) -> Note:
        with (
            folder.open(task.path) as sealed,
            self._target.store.create(self._target.child(task.path)) as writer,
        ):
            plaintext_bytes = self._open_into(sealed, writer, task.path, threads)
            old = task.replaces
            made = writer.commit(replace=old is not None, if_version=old)
            self.tally.did(plaintext_bytes)
            return Note(path=task.path, source=sealed.version, made=made)

    def _compare(self, folder: PinnedDirectory, task: _Task, threads: int) -> Note:
        """Open again what nobody noted down, beside the bytes that are there; write nothing."""
        with (
            folder.open(task.path) as sealed,
            self._target.store.open(self._target.child(task.path)) as plain,
        ):
            beside = _Beside(plain)
            sink = cast("ObjectWriter", beside)
            plaintext_bytes = self._open_into(sealed, sink, task.path, threads)
            plain.check_unchanged()
            if not beside.is_same or plaintext_bytes != plain.size_bytes:
                raise taken(self._target, [task.path])
            self.tally.was_done(plaintext_bytes, told_bytes=plaintext_bytes)
            return Note(path=task.path, source=sealed.version, made=plain.version)

    def _open_into(self, sealed: PinnedObject, sink: ObjectWriter, path: str, threads: int) -> int:
        entry = None if self._signed is None else self._signed[path]
        opened = open_object(
            sealed,
            sink,
            keys=self._keys.readers,
            expect=self._keys.expected(path),
            expected_payload_digest=None if entry is None else str(entry.digest),
            expected_payload_bytes=None if entry is None else entry.size_bytes,
            threads=threads,
            digest_algorithm=None,
            progress=self.tally.meter(),
            state_of=self._keys.state_of,
        )
        if entry is not None and entry.core_id != opened.core_id.hex():
            raise IntegrityError(f"{sealed.uri}: expected the file that was signed, found another")
        return opened.plaintext_bytes


class _Beside:
    """Takes what an ObjectWriter does, and compares it with what is there."""

    def __init__(self, plain: PinnedObject) -> None:
        self._plain = plain
        self.is_same = True

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if self.is_same and self._plain.read_at(offset, len(data)) != data:
            self.is_same = False


def _check_names(source: Tree, names: Sequence[str], signed: Mapping[str, Entry] | None) -> None:
    """Return if exactly what was signed lies there, by name."""
    if signed is None:
        return
    added, missing = sorted(set(names) - signed.keys()), sorted(signed.keys() - set(names))
    if added or missing:
        raise ManifestMismatchError(
            f"{source.uri}: {len(added)} files were added since it was signed, and {len(missing)} "
            "removed; restore the signed files",
            added=added,
            missing=missing,
        )
