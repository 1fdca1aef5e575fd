"""Put checkpoints where nobody can take them away again, and read them from there.

An anchor is a checkpoint that somebody else keeps: what it covers cannot change unnoticed, not
even by whoever holds store and log key, for as long as the store's lock holds.

Source: AUDIT_TRAIL, What it proves, against whom.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.ports import AuditReader, WholeLog
from airflow_secure_ml.core.audit.relaying import Anchored, AnchorStore, RelayBook
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.errors import AuditLogError, SecureMLError
from airflow_secure_ml.services.relaying import Rest
from airflow_secure_ml.services.verifying import CANNOT_TELL, TAMPERED, Report

EVERY_MS = 3_600_000
PACE_S = 30.0
# As S3 counts nothing, names sort as numbers.
_DIGITS = 16


class AnchorJob:
    """Anchors the first checkpoint and one each hour. A `services.relaying.Job`.

    Args:
        store: Where to.
        reader: The log.
        log_keys: Gives the keys that checkpoints are believed by.
        book: Where anchors are noted.
        now_ms: Wall clock, ms since 1970 UTC.
    """

    about = "anchor"

    def __init__(
        self,
        *,
        store: AnchorStore,
        reader: AuditReader,
        log_keys: Callable[[], Sequence[LogKey]],
        book: RelayBook,
        now_ms: Callable[[], int],
    ) -> None:
        self.name = f"anchor {store.uri}"
        self._store, self._reader, self._log_keys = store, reader, log_keys
        self._book, self._now_ms = book, now_ms

    def step(self) -> Rest:
        """Anchor the newest checkpoint, if one is due.

        Raises:
            AuditLogError: The log has fewer leaves than it had, or another note lies there.
            ServiceRefusedError: The store did not confirm the lock.
            ServiceUnavailableError: It did not answer.
            SignatureError: The log's newest checkpoint does not hold.
        """
        note = self._reader.checkpoint()
        if note is None:
            return Rest(seconds=PACE_S, is_done=True)
        ours = open_checkpoint(note, self._log_keys(), origin=self._reader.origin())
        last = last_anchor(self._book, self._store.uri)
        if last is not None and last.size > ours.size:
            raise AuditLogError(
                f"{last.uri}: {last.size} leaves are anchored, this log has a checkpoint over "
                f"{ours.size} only; it was rolled back",
                index=ours.size,
            )
        if not ours.size or (last is not None and not self._is_due(last, ours)):
            return Rest(seconds=PACE_S, is_done=True)
        self._anchor(note, ours)
        return Rest(seconds=PACE_S, is_done=True)

    def _is_due(self, last: Anchored, ours: Checkpoint) -> bool:
        return last.size < ours.size and self._now_ms() - last.time_ms >= EVERY_MS

    def _anchor(self, note: str, ours: Checkpoint) -> None:
        name = f"{ours.size:0{_DIGITS}d}.note"
        found = self._store.put(name, note.encode())
        if isinstance(found, bytes):
            raise AuditLogError(
                f"{self._store.uri}/{name}: another note lies there than the log's over "
                f"{ours.size} leaves: the log was rewritten, or another writes to this prefix; "
                "keep both, and run `secure-ml audit verify --anchor`",
                index=None,
            )
        self._book.keep_anchored(
            Anchored(
                size=ours.size,
                uri=found.uri,
                version=found.version,
                until_ms=found.until_ms,
                time_ms=self._now_ms(),
            )
        )


def last_anchor(book: RelayBook, uri: str) -> Anchored | None:
    """The newest anchor below an address, by the relay's own account."""
    return next((each for each in book.anchors(100) if each.uri.startswith(f"{uri}/")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a store keeps of a log.

    Attributes:
        checkpoints: Of this log, signed by a known key, by size.
        problems: Why other notes are none.
    """

    checkpoints: Sequence[Checkpoint]
    problems: Sequence[str]


def read_anchors(store: AnchorStore, log_keys: Sequence[LogKey], origin: str) -> Held:
    """The checkpoints that a store keeps.

    A signature that holds is believed whatever the lock: whoever has no log key cannot make one,
    and whoever has it gains nothing by adding to what is locked already.

    Raises:
        FormatError: What lies there is not notes.
        ServiceError: The store refused, or did not answer.
    """
    held, problems = [], []
    for note in store.kept():
        try:
            held.append(open_checkpoint(note, log_keys, origin=origin))
        except SecureMLError as error:
            problems.append(str(error))
    return Held(checkpoints=sorted(held, key=lambda each: each.size), problems=problems)


def hold_against(report: Report, log: WholeLog, held: Held) -> Report:
    """A verification's report, once the log was held against anchors too.

    Args:
        report: What deriving the log anew found.
        log: The view that it was found in.
        held: What the store keeps.
    """
    if report.status == TAMPERED:
        return report
    good = 0
    for each in held.checkpoints:
        if each.size > report.size:
            problem = (
                f"{each.size} leaves are anchored, the log has {report.size}; it was rolled back"
            )
            return replace(report, status=TAMPERED, problem=problem, first_bad=report.size)
        # The stored hashes: that they are what the leaves give was just derived.
        root = Edge.read(each.size, node_reader(log.leaf_hashes, log.tile)).root()
        if not hmac.compare_digest(root, each.root):
            problem = (
                f"the anchored checkpoint over {each.size} leaves has another root; a leaf from "
                f"{good} to {each.size - 1} was changed, and the log signed anew"
            )
            return replace(report, status=TAMPERED, problem=problem, first_bad=good)
        good = each.size
    unknown = _unknown(held)
    if unknown and not report.status:
        return replace(report, status=CANNOT_TELL, problem=unknown)
    return report


def _unknown(held: Held) -> str:
    if held.problems:
        return f"{len(held.problems)} anchors are no checkpoints of this log: {held.problems[0]}"
    return "" if held.checkpoints else "no checkpoint is anchored there"
