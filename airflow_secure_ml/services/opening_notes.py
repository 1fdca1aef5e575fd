"""What a tree that is being opened notes down beside it, in `_asml/opening/`, until all is done.

Nobody signs the notes: they only spare work. Whoever could write them could write the plain files
themselves; what they do not tell is found out by opening again and comparing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.canonical import Limits, decode, encode
from airflow_secure_ml.errors import FormatError, PolicyError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.tree_target import taken
from airflow_secure_ml.services.tree_work import Tree

NOTES = f"{KEY_FOLDER}/opening"
_NAME = re.compile(r"[0-9]{8}")
_MAX_BYTES = 8 << 20
_LIMITS = Limits(max_bytes=_MAX_BYTES, max_depth=4, key=None)
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One file that was opened.

    Attributes:
        path: Its relative name.
        source: Version of the sealed file.
        made: Version of the plain one.
    """

    path: str
    source: str
    made: str


class OpeningNotes:
    """Notes of what was opened into a tree by now.

    Args:
        target: The plain tree.
    """

    def __init__(self, target: Tree) -> None:
        self._target = target
        self._guard = threading.Lock()
        self._next = 0
        self.files: dict[str, Note] = {}

    def read(self) -> None:
        """Read what an earlier run left; what is no note is no help, and nothing worse.

        Raises:
            PolicyError: The tree holds keys or else under `_asml` (address_taken).
        """
        store = self._target.store
        above = Tree(store=store, uri=self._target.child(KEY_FOLDER))
        if store.info(above.uri) is None:
            return
        for name in store.walk(above.uri):
            folder, _, number = name.rpartition("/")
            if f"{KEY_FOLDER}/{folder}" != NOTES:
                raise taken(self._target, [f"{KEY_FOLDER}/{name}"])
            if not _NAME.fullmatch(number):
                continue
            self._next = max(self._next, int(number) + 1)
            for note in self._read(above.child(name)):
                self.files[note.path] = note

    def add(self, notes: Sequence[Note]) -> None:
        """Note down what was opened; durable when this returns. Safe from many threads.

        Raises:
            PolicyError: Another run opens into the same tree (address_taken).
        """
        if not notes:
            return
        files = [{"path": one.path, "source": one.source, "made": one.made} for one in notes]
        data = encode({"secure_ml_opening": _VERSION, "files": files}, limits=_LIMITS)
        with self._guard:
            uri = self._target.child(f"{NOTES}/{self._next:08}")
            with self._target.store.create(uri) as writer:
                writer.write_at(0, data)
                try:
                    writer.commit(replace=False)
                except PolicyError as error:
                    raise PolicyError(
                        f"{self._target.uri}: another run opens into it at this time; let it end, "
                        "and start again",
                        why="address_taken",
                    ) from error
            self._next += 1

    def remove(self) -> None:
        """Leave nothing but the plain files."""
        self._target.store.delete(self._target.child(KEY_FOLDER))

    def _read(self, uri: str) -> list[Note]:
        with self._target.store.open(uri) as pinned:
            data = pinned.read_at(0, min(pinned.size_bytes, _MAX_BYTES))
        try:
            return _parsed(decode(data, limits=_LIMITS))
        except FormatError:
            return []


def _parsed(record: Any) -> list[Note]:
    match record:
        case {"secure_ml_opening": int(version), "files": list(files)} if version == _VERSION:
            return [found for found in map(_note, files) if found is not None]
    return []


def _note(record: Any) -> Note | None:
    match record:
        case {"path": str(path), "source": str(source), "made": str(made)}:
            return Note(path=path, source=source, made=made)
    return None
