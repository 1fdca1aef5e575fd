"""What lies at an address, pinned once: a file, or one state of a directory.

Whoever verifies and then opens does both through one of these, so that what was verified is what
is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from airflow_secure_ml.core.ports import ObjectStore, PinnedDirectory, PinnedObject


class Artifact:
    """A pinned file, whose only name is '', or a pinned directory; a context manager.

    Attributes:
        uri: The canonical address.
        is_directory: Whether it is one.
    """

    def __init__(
        self,
        uri: str,
        *,
        file: PinnedObject | None = None,
        directory: PinnedDirectory | None = None,
    ) -> None:
        assert (file is None) != (directory is None)
        self.uri, self.is_directory = uri, directory is not None
        self._file, self._directory = file, directory

    @property
    def held(self) -> PinnedObject | PinnedDirectory:
        """What is pinned."""
        held = self._directory or self._file
        assert held is not None
        return held

    @property
    def version(self) -> str:
        """What tells it from another; empty for a directory in a store that keeps no states."""
        return self.held.version

    @property
    def files_at_once(self) -> int:
        """How many files are best read at the same time."""
        return 1 if self._directory is None else self._directory.files_at_once

    def names(self) -> Sequence[str]:
        """Relative names of its files; '' alone for a file."""
        return [""] if self._directory is None else self._directory.names()

    def open(self, name: str) -> AbstractContextManager[PinnedObject]:
        """One of `names()` as it was pinned.

        Raises:
            FileNotFoundError: It was removed since.
            IntegrityError: Something else lies there since.
        """
        if self._directory is not None:
            return self._directory.open(name)
        assert self._file is not None
        # Let go of with the artifact, and read by several until then.
        return nullcontext(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.held.__exit__(kind, error, trace)


def pin_artifact(store: ObjectStore, uri: str) -> Artifact:
    """Pin what lies at a canonical address.

    Raises:
        FileNotFoundError: Nothing is there.
        FormatError: As `ObjectStore.open` and `ObjectStore.open_directory`.
    """
    info = store.info(uri)
    if info is not None and info.is_directory:
        return Artifact(uri, directory=store.open_directory(uri))
    return Artifact(uri, file=store.open(uri))
