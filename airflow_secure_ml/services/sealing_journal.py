"""The journal of a tree that is being sealed: signed records in `_asml/sealing/` of the target.

Each is published before the files that it names, so a file that no record knows is not ours, and
a record whose file is not there is work to do. Whoever can write there can only take records away,
and then nothing goes on.

Source: core.sealing_record.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.ports import Signer, Verifier
from airflow_secure_ml.core.sealing_record import (
    MAX_RECORD_BYTES,
    Errand,
    SealedFrom,
    SealingRecord,
    parse,
)
from airflow_secure_ml.errors import IntegrityError, PolicyError, SecureMLError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.tree_work import Tree

JOURNAL = f"{KEY_FOLDER}/sealing"
_NAME = re.compile(r"[0-9]{8}")
# Base64 of a record, and its signatures.
_MAX_BYTES = 2 * MAX_RECORD_BYTES


@dataclass(slots=True)
class Known:
    """What the journal says of one file.

    Attributes:
        newest: What was sealed last; the others were replaced, or are to be.
        dataset_key: The data-set key that it was sealed under then.
        core_ids: Every core_id that it ever had.
    """

    newest: SealedFrom
    dataset_key: str
    core_ids: set[str] = field(default_factory=set)


class SealingJournal:
    """What was sealed into a tree by now.

    Args:
        target: The sealed tree.
        signer: Signs each record.
        verifiers: Whose records are believed.
    """

    def __init__(self, target: Tree, signer: Signer, verifiers: Sequence[Verifier]) -> None:
        self._target, self._signer, self._verifiers = target, signer, verifiers
        self._guard = threading.Lock()
        self._count = 0
        self.files: dict[str, Known] = {}
        self.last: SealingRecord | None = None

    def read(self) -> None:
        """Read what an earlier run left.

        Raises:
            IntegrityError: A record is missing, altered, or another tree's.
            PolicyError: Somebody else signed it (signer_not_accepted).
        """
        folder = Tree(store=self._target.store, uri=self._target.child(JOURNAL))
        if folder.store.info(folder.uri) is None:
            return
        names = [name for name in folder.store.walk(folder.uri) if _NAME.fullmatch(name)]
        for number, name in enumerate(names):
            if int(name) != number:
                raise IntegrityError(
                    f"{folder.uri}: expected record {number}, found {name}; records were removed, "
                    "so what was sealed is not known any more: seal to another place"
                )
            self._take(self._record(folder.child(name), number))

    def append(self, errand: Errand, dataset_key: str, files: Sequence[SealedFrom] = ()) -> None:
        """Sign and publish a record; durable when this returns. Safe from many threads.

        Raises:
            PolicyError: Another run seals into the same tree (address_taken).
        """
        with self._guard:
            made = SealingRecord(
                number=self._count, errand=errand, dataset_key=dataset_key, files=tuple(files)
            )
            data = dsse.sign(made.encode(), [self._signer]).encode()
            uri = self._target.child(f"{JOURNAL}/{self._count:08}")
            with self._target.store.create(uri) as writer:
                writer.write_at(0, data)
                try:
                    writer.commit(replace=False)
                except PolicyError as error:
                    raise PolicyError(
                        f"{self._target.uri}: another run seals into it at this time; let it end, "
                        "and start again",
                        why="address_taken",
                    ) from error
            self._take(made)

    def _take(self, record: SealingRecord) -> None:
        self._count += 1
        self.last = record
        for each in record.files:
            known = self.files.setdefault(each.entry.path, Known(each, record.dataset_key))
            known.newest, known.dataset_key = each, record.dataset_key
            known.core_ids.add(each.entry.core_id or "")

    def _record(self, uri: str, number: int) -> SealingRecord:
        with self._target.store.open(uri) as pinned:
            if pinned.size_bytes > _MAX_BYTES:
                raise IntegrityError(f"{uri}: {pinned.size_bytes} bytes are no journal's record")
            data = pinned.read_at(0, _MAX_BYTES)
        try:
            payload, _ = dsse.verify(dsse.parse(data), self._verifiers)
            found = parse(payload)
        except PolicyError as error:
            raise PolicyError(f"{uri}: {error}", why=error.why) from error
        except SecureMLError as error:
            raise IntegrityError(f"{uri}: no record of this journal: {error}") from error
        if (found.number, found.errand.target) != (number, self._target.uri):
            raise IntegrityError(
                f"{uri}: expected record {number} of {self._target.uri}, found record "
                f"{found.number} of {found.errand.target}; the journal was put together from others"
            )
        return found
