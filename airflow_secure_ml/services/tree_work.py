"""Work on every file of a directory: who takes which, what is counted, what stops all of it.

What goes wrong with one file concerns that file; what another system does not do concerns all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.errors import (
    MAX_NAMES,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
)
from airflow_secure_ml.services.sealed_lanes import Lanes

# What all threads together hold that has no name yet: each such file takes descriptors, of which a
# process may have 1024, and in some stores memory.
ASIDE_FILES = 192
BATCH_BYTES = 64 << 20
OF_ONE_FILE = (ConfigurationError, FormatError, IntegrityError, PolicyError, FileNotFoundError)

Pace = Callable[[int, int], None]
"""Called with the files and the plaintext bytes done so far, by one thread at a time."""

_T = TypeVar("_T")


class StoppedError(Exception):
    """A file failed and nothing shall go on; the tally says why."""


class Sized(Protocol):
    """Something to be done that is as long as a file."""

    @property
    def size_bytes(self) -> int:
        """Its length."""


_S = TypeVar("_S", bound=Sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A directory in a store.

    Attributes:
        store: Where it lies.
        uri: Its canonical address.
    """

    store: ObjectStore
    uri: str

    def child(self, path: str) -> str:
        """The address of a file of it."""
        return self.store.child(self.uri, path)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of it, so far. Safe from many threads.

    Attributes:
        files: Files there are.
        size_bytes: Length of all of them, plain.
        done: Files that were done now.
        done_bytes: Length of these, plain.
        already: Files that were done before, and checked.
        already_bytes: Length of these, plain.
        failed: Files that were not done.
        failures: The first ten reasons why.
        pace: Told of each step.
    """

    files: int = 0
    size_bytes: int = 0
    done: int = 0
    done_bytes: int = 0
    already: int = 0
    already_bytes: int = 0
    failed: int = 0
    failures: list[SecureMLError] = field(default_factory=list)
    pace: Pace | None = None
    _moved: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def was_done(self, size_bytes: int, *, told_bytes: int = 0) -> None:
        """Count a file that was finished before; so much of it was told by `meter`."""
        with self._guard:
            self.already += 1
            self.already_bytes += size_bytes
            self._tell(size_bytes - told_bytes)

    def did(self, size_bytes: int) -> None:
        """Count a file that has its name now; its bytes were told by `meter`."""
        with self._guard:
            self.done += 1
            self.done_bytes += size_bytes
            self._tell(0)

    def fail(self, path: str, error: SecureMLError | FileNotFoundError) -> None:
        """Count a file that was not done."""
        if isinstance(error, FileNotFoundError):
            error = IntegrityError(f"{path}: it was removed meanwhile")
        with self._guard:
            self.failed += 1
            if len(self.failures) < MAX_NAMES:
                self.failures.append(error)
            self._tell(0)

    def meter(self) -> Callable[[int], None]:
        """For one file: takes the bytes of it that were done so far."""
        last = 0

        def take(done_bytes: int) -> None:
            nonlocal last
            with self._guard:
                step, last = done_bytes - last, done_bytes
                self._tell(step)

        return take

    def as_record(self) -> dict[str, Any]:
        """What a program gets to read."""
        return {
            "files": self.files,
            "bytes": self.size_bytes,
            "done": self.done,
            "done_bytes": self.done_bytes,
            "skipped": self.already,
            "skipped_bytes": self.already_bytes,
            "failed": self.failed,
            "failures": [{"why": each.why, "message": str(each)} for each in self.failures],
        }

    def _tell(self, step_bytes: int) -> None:
        self._moved += step_bytes
        if self.pace is not None:
            self.pace(self.done + self.already, self._moved)


def in_threads(work: Callable[[_T], None], items: Sequence[_T], threads: int) -> None:
    """Call `work` with each item; the first error stops all, and is raised."""
    left = iter(items)
    guard = threading.Lock()
    lanes = Lanes(threads, pieces=len(items))

    def lane() -> None:
        while True:
            lanes.check()
            with guard:
                found = next(left, guard)
            if found is guard:
                return
            work(found)  # type: ignore[arg-type] # the sentinel is no item

    lanes.run(lane)


def batches(items: Sequence[_S], threads: int) -> Iterator[Sequence[_S]]:
    """Cut into batches of bounded count and length, so many that each thread gets its share."""
    # Four for each thread, so that they end together.
    most = max(1, min(ASIDE_FILES // threads, len(items) // (4 * threads)))
    most_bytes = BATCH_BYTES // threads
    batch: list[_S] = []
    size = 0
    for each in items:
        if batch and (len(batch) == most or size + each.size_bytes > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size_bytes
    if batch:
        yield batch


@contextlib.contextmanager
def one_file(tally: Tally, path: str, *, keep_going: bool) -> Iterator[None]:
    """Count what goes wrong with one file, and stop all unless the others shall go on.

    Raises:
        StoppedError: They shall not.
    """
    try:
        yield
    except OF_ONE_FILE as error:
        tally.fail(path, error)
        if not keep_going:
            raise StoppedError from error


def require_apart(source: Tree, target: Tree) -> None:
    """Refuse two directories of which one is, or lies in, the other."""
    first, second = f"{source.uri.rstrip('/')}/", f"{target.uri.rstrip('/')}/"
    if first.startswith(second) or second.startswith(first):
        raise ConfigurationError(
            f"{target.uri}: expected a place apart from {source.uri}, found one in the other; "
            "nothing is sealed or opened in place: choose another, and remove the source when "
            "the result was verified"
        )


def require_directory(tree: Tree) -> None:
    """Refuse what is no directory, before anything is done."""
    info = tree.store.info(tree.uri)
    if info is None or not info.is_directory:
        found = "nothing" if info is None else "a file"
        raise ConfigurationError(f"{tree.uri}: expected a folder, found {found} there")
