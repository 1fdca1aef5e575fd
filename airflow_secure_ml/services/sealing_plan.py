"""Decide what of a tree is left to seal, before anything of it is touched.

What counts as finished is checked: the signed journal names it as the newest, its header and its
length lie there, and its source is as it was. Bytes behind a header are what the statement's
digests are for. What the journal does not know is somebody else's, and stops all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_secure_ml.core.manifest import MAX_FILES, Entry
from airflow_secure_ml.core.ports import PinnedDirectory
from airflow_secure_ml.core.sealing_record import Errand
from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError
from airflow_secure_ml.services.sealed_dataset import dataset_key_name
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealing_journal import Known, SealingJournal
from airflow_secure_ml.services.tree_target import require_none_but, taken
from airflow_secure_ml.services.tree_work import Tally, Tree, in_threads, one_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file to seal.

    Attributes:
        path: Its relative name.
        size_bytes: Its length.
        replaces: Version of what was sealed there from an older source; None: nothing is there.
    """

    path: str
    size_bytes: int
    replaces: str | None = None


@dataclass(slots=True)
class SealingPlan:
    """What is left, and what is not.

    Attributes:
        dataset_key: The key of what was sealed before; None: nothing was.
        tasks: What is left, by name.
        finished: What an earlier run sealed, by name.
    """

    dataset_key: str | None
    tasks: list[Task] = field(default_factory=list)
    finished: dict[str, Entry] = field(default_factory=dict)


def plan_sealing(
    folder: PinnedDirectory,
    target: Tree,
    journal: SealingJournal,
    errand: Errand,
    *,
    tally: Tally,
    threads: int,
    keep_going: bool,
) -> SealingPlan:
    """Look at every file of the source, and at what lies where it goes.

    Raises:
        ConfigurationError: An earlier run was of another source, key or context; or no files,
            or too many to be signed at once.
        PolicyError: Something lies there that the journal does not know (address_taken), or the
            key of what does is gone (key_missing).
        StoppedError: A file cannot be looked at, and nothing shall go on.
    """
    names = folder.names()
    if not 1 <= len(names) <= MAX_FILES:
        raise ConfigurationError(
            f"{folder.uri}: expected 1 to {MAX_FILES} files, which one statement can name, found "
            f"{len(names)}; seal the folders below it one by one"
        )
    tally.files, tally.size_bytes = len(names), sum(map(folder.size_of, names))
    there = require_none_but(target, set(names))
    plan = SealingPlan(dataset_key=_known_key(target, journal, errand, there))
    foreign: list[str] = []

    def look(path: str) -> None:
        with one_file(tally, path, keep_going=keep_going):
            if path not in there:
                plan.tasks.append(Task(path=path, size_bytes=folder.size_of(path)))
                return
            found = _look(folder, target, path, journal.files.get(path))
            if found is None:
                foreign.append(path)
            elif isinstance(found, Task):
                plan.tasks.append(found)
            else:
                plan.finished[path] = found
                tally.was_done(folder.size_of(path))

    in_threads(look, names, threads)
    if foreign:
        raise taken(target, sorted(foreign))
    _require_keys(target, {journal.files[path].dataset_key for path in plan.finished})
    plan.tasks.sort(key=lambda task: task.path)
    return plan


def _look(
    folder: PinnedDirectory, target: Tree, path: str, known: Known | None
) -> Entry | Task | None:
    """What is finished, or is to be sealed again; None: what lies there is not ours."""
    if known is None:
        return None
    with target.store.open(target.child(path)) as pinned:
        try:
            header = read_sealed_header(pinned)
        except FormatError:
            return None
        size_bytes, version = pinned.size_bytes - header.size_bytes, pinned.version
    core_id = header.core_id.hex()
    if core_id not in known.core_ids:
        return None
    made = known.newest
    with folder.open(path) as plain:
        source, plaintext_bytes = plain.version, plain.size_bytes
    if (core_id, size_bytes) == (made.entry.core_id, made.entry.size_bytes) and (
        source,
        plaintext_bytes,
    ) == (made.source, made.plaintext_bytes):
        return made.entry
    return Task(path=path, size_bytes=plaintext_bytes, replaces=version)


def _known_key(
    target: Tree, journal: SealingJournal, errand: Errand, there: set[str]
) -> str | None:
    last = journal.last
    if last is None:
        if there:
            raise taken(target, sorted(there))
        return None
    for what in ("source", "keys", "context"):
        if getattr(last.errand, what) != getattr(errand, what):
            raise ConfigurationError(
                f"{target.uri}: was begun with another {what}: {getattr(last.errand, what)}; go on "
                "with the same arguments, or seal to another place"
            )
    is_there = target.store.info(target.child(dataset_key_name(last.dataset_key))) is not None
    return last.dataset_key if is_there else None


def _require_keys(target: Tree, dataset_keys: set[str]) -> None:
    for name in map(dataset_key_name, sorted(dataset_keys)):
        if target.store.info(target.child(name)) is None:
            raise PolicyError(
                f"{target.uri}: its data-set key {name} is gone, and what was sealed under it "
                "with it; seal to another place",
                why="key_missing",
            )
