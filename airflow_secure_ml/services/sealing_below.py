"""Seal every file of a directory to another place, under one data-set key, and sign the whole.

Interrupted anywhere and begun again it goes on with what is left (`services.sealing_plan`). Signed
is only what is complete: until then no reader who demands a signature takes any of it.

Source: SEALED_FILE_FORMAT, Data-set key; API, Signatures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import (
    KeySystem,
    KeyWrapper,
    ObjectWriter,
    PinnedDirectory,
    Signer,
    Verifier,
)
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE, DataSetKeyWrapper
from airflow_secure_ml.core.sealing_record import Errand, SealedFrom
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key
from airflow_secure_ml.services.sealing import AS_POLICY, seal_object
from airflow_secure_ml.services.sealing_journal import SealingJournal
from airflow_secure_ml.services.sealing_plan import Task, plan_sealing
from airflow_secure_ml.services.statement_files import (
    SignedStatement,
    find_statements,
    read_statements,
    sign_artifact,
)
from airflow_secure_ml.services.tree_target import require_exactly
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

_RESERVED = ("dataset", "object")
_OURS, _STATEMENTS = "_asml", ".sig"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKeys:
    """Who shall be able to open it, and who vouches for it.

    Attributes:
        system: Where they lie.
        names: The keys that open the data-set key, at least one.
        signer: Signs journal and statement.
        verifiers: All versions of the signer's key whose records are believed.
    """

    system: KeySystem
    names: tuple[str, ...]
    signer: Signer
    verifiers: Sequence[Verifier]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aside:
    """A file that is sealed and has no name yet."""

    task: Task
    writer: ObjectWriter
    made: SealedFrom


class SealingBelow:
    """One directory on its way to another.

    Args:
        source: The plain directory.
        target: Where it goes; what lies there must be of an earlier run of the same.
        keys: To whom, by whom.
        context: Pairs for every file's context besides `dataset` and `object`.
        threads: 1 to 64.
        keep_going: Whether a file that cannot be sealed leaves the others be.
        pace: Told of each step.

    Raises:
        ConfigurationError: The two places are not apart, or a name is kept for something else.
    """

    def __init__(
        self,
        source: Tree,
        target: Tree,
        *,
        keys: SealingKeys,
        context: Mapping[str, str],
        threads: int,
        keep_going: bool = False,
        pace: Pace | None = None,
    ) -> None:
        require_apart(source, target)
        _check_names(source, target, context)
        self._source, self._target, self._keys = source, target, keys
        self._threads, self._keep_going = threads, keep_going
        self._context = {**context, "dataset": target.uri}
        self._errand = Errand(
            source=source.uri,
            target=target.uri,
            keys=tuple(sorted(set(keys.names))),
            context=self._context,
        )
        self._finished: dict[str, Entry] = {}
        self.tally = Tally(pace=pace)
        self.dataset_key = ""

    def run(self) -> Tally:
        """Seal what is left.

        Returns:
            What came of it; files that failed for a reason of their own are in it.

        Raises:
            PolicyError: Something that an earlier run did not seal lies there (address_taken).
            SecureMLError: What fails all of it; what was sealed stays, and is known.
        """
        require_directory(self._source)
        journal = SealingJournal(self._target, self._keys.signer, self._keys.verifiers)
        with (
            contextlib.suppress(StoppedError),
            self._source.store.open_directory(self._source.uri) as folder,
        ):
            journal.read()
            plan = plan_sealing(
                folder,
                self._target,
                journal,
                self._errand,
                tally=self.tally,
                threads=self._threads,
                keep_going=self._keep_going,
            )
            self._finished.update(plan.finished)
            self.dataset_key = plan.dataset_key or ""
            if plan.tasks:
                key = self._key(journal, plan.dataset_key)
                self.dataset_key = key.slot_id
                try:
                    self._seal(_Bench(folder, journal, key), plan.tasks)
                finally:
                    key.wipe()
        return self.tally

    def sign(self, now_ms: int) -> SignedStatement:
        """Vouch for the whole, once `run` left nothing out; a statement that stands is kept.

        Args:
            now_ms: ms since 1970 UTC.

        Raises:
            PolicyError: A file failed, or something else lies there now.
        """
        manifest = self.manifest
        require_exactly(self._target, self._finished.keys())
        store, uri = self._target.store, self._target.uri
        names = find_statements(store, uri, manifest.digest)
        stands = read_statements(
            store, names, self._keys.verifiers, about=[each.path for each in manifest.entries]
        ).held
        for each in stands:
            if (each.digest, each.statement.object) == (manifest.digest, uri):
                return each
        said = Statement(
            object=uri,
            manifest=manifest,
            act="write",
            signed_ms=now_ms,
            context={**self._context, "object": uri},
        )
        return sign_artifact(store, said, self._keys.signer)

    @property
    def manifest(self) -> Manifest:
        """What lies at the target; PolicyError unless `run` left nothing out."""
        if self.tally.failed or len(self._finished) != self.tally.files:
            raise PolicyError(
                f"{self._target.uri}: expected {self.tally.files} sealed files, found "
                f"{len(self._finished)}; only what is complete is signed",
                why="output_missing",
            )
        return Manifest.of(self._finished.values())

    def _key(self, journal: SealingJournal, known: str | None) -> DataSetKeyWrapper:
        """The tree's key: the journal's, or a new one that the journal names first."""
        wanted = sealing_keys(self._keys.system, self._keys.names)
        found = None if known is None else self._opened(known, wanted)
        if found is not None:
            return found
        later = _Later(self._target)
        key = create_dataset_key(
            later,  # type: ignore[arg-type] # the two methods that it needs
            self._target.uri,
            keys=wanted,
            context=self._context,
        )
        journal.append(self._errand, key.slot_id)
        later.publish()
        return key

    def _opened(self, known: str, wanted: Sequence[KeyWrapper]) -> DataSetKeyWrapper | None:
        """The journal's key; None: it is not there, or only others open it."""
        system = self._keys.system
        root = DataSetRoot(
            self._target.store,
            self._target.uri,
            # Its core_id was signed, so it is no stranger's whoever may have wrapped it.
            keys=opening_keys(system),
            state_of=system.state_of,
        )
        try:
            return root.dataset_key(known)
        except PolicyError as error:
            # What was sealed for others alone goes on under a second key, for the same ones.
            if error.why != "key_missing" or any(key.slot_type != TYPE_HPKE for key in wanted):
                raise
            return None

    def _seal(self, bench: _Bench, tasks: Sequence[Task]) -> None:
        small = [task for task in tasks if task.size_bytes <= BATCH_BYTES]

        def seal_small(batch: Sequence[Task]) -> None:
            self._seal_batch(bench, batch, 1)

        in_threads(seal_small, list(batches(small, self._threads)), self._threads)
        for task in tasks:
            if task.size_bytes > BATCH_BYTES:
                self._seal_batch(bench, [task], self._threads)

    def _seal_batch(self, bench: _Bench, tasks: Sequence[Task], threads: int) -> None:
        """Seal aside, say so in the journal, and only then give names."""
        with contextlib.ExitStack() as stack:
            aside: list[_Aside] = []
            for task in tasks:
                with one_file(self.tally, task.path, keep_going=self._keep_going):
                    aside.append(self._seal_aside(bench, task, stack, threads))
            if not aside:
                return
            made = [each.made for each in aside]
            bench.journal.append(self._errand, bench.key.slot_id, made)
            for each in aside:
                with one_file(self.tally, each.task.path, keep_going=self._keep_going):
                    old = each.task.replaces
                    each.writer.commit(replace=old is not None, if_version=old)
                    self._finished[each.task.path] = each.made.entry
                    self.tally.did(each.made.plaintext_bytes)

    def _seal_aside(
        self, bench: _Bench, task: Task, stack: contextlib.ExitStack, threads: int
    ) -> _Aside:
        uri = self._target.child(task.path)
        writer = stack.enter_context(self._target.store.create(uri))
        with bench.folder.open(task.path) as pinned:
            sealed = seal_object(
                pinned,
                writer,
                keys=[bench.key],
                context={**self._context, "object": uri},
                threads=threads,
                digest_algorithm=bench.digest_algorithm,
                progress=self.tally.meter(),
            )
            version = pinned.version
        assert sealed.payload_digest is not None
        entry = Entry(
            path=task.path,
            size_bytes=sealed.payload_bytes,
            digest=Digest.parse(sealed.payload_digest),
            core_id=sealed.core_id.hex(),
        )
        made = SealedFrom(entry=entry, source=version, plaintext_bytes=sealed.plaintext_bytes)
        return _Aside(task=task, writer=writer, made=made)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What files are sealed with."""

    folder: PinnedDirectory
    journal: SealingJournal
    key: DataSetKeyWrapper

    @property
    def digest_algorithm(self) -> str:
        """One for the whole tree: a manifest has no two."""
        for known in self.journal.files.values():
            return known.newest.entry.digest.algorithm
        return AS_POLICY


class _Later:
    """The store of a data-set key's header that is published when it is told to."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._uri = ""
        self._data = b""

    def child(self, uri: str, relative: str) -> str:
        return self._tree.store.child(uri, relative)

    def create(self, uri: str) -> contextlib.nullcontext[_Later]:
        self._uri = uri
        return contextlib.nullcontext(self)

    def write_at(self, offset: int, data: bytes) -> None:
        self._data = self._data[:offset] + data

    def commit(self, *, replace: bool) -> None:
        """Return: only `publish` makes it visible."""

    def publish(self) -> None:
        with self._tree.store.create(self._uri) as writer:
            writer.write_at(0, self._data)
            writer.commit(replace=False)


def _check_names(source: Tree, target: Tree, context: Mapping[str, str]) -> None:
    for name in _RESERVED:
        if name in context:
            raise ConfigurationError(
                f"--context {name}: expected other pairs; a tree's files are given it by where "
                "they go"
            )
    for part in target.uri.split("/"):
        if part == _OURS or part.endswith(_STATEMENTS):
            raise ConfigurationError(
                f"{target.uri} holds {part!r}, and names with {_STATEMENTS} or {_OURS} are kept "
                "for statements and keys; choose another"
            )
    if source.store.info(source.child(_OURS)) is not None:
        raise ConfigurationError(
            f"{source.uri} holds {_OURS!r}, a name that is kept for the keys of a sealed folder; "
            "it may be sealed already, else rename it"
        )
