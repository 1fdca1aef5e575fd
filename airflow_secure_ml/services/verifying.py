"""Derive a whole log again from its leaves and hold it against everything that was kept.

Reads only, believes nothing that is stored, and names the first leaf that is wrong.

Source: AUDIT_TRAIL, Must be caught and Review.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.handing_over import HandOvers
from airflow_secure_ml.core.audit.ports import WholeLog
from airflow_secure_ml.core.audit.pruning import Holds, pruned_to
from airflow_secure_ml.core.audit.tiles import TILE_BYTES, TILE_WIDTH, build_tiles
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, HASH_BYTES, Edge, leaf_hash
from airflow_secure_ml.errors import AuditLogError, PolicyError, SecureMLError
from airflow_secure_ml.services.emitter_chains import Chains
from airflow_secure_ml.services.endings import Endings, EndTracker

WHOLE, TAMPERED, INCOMPLETE, CANNOT_TELL = 0, 1, 4, 5
CHUNK = 1024

Progress = Callable[[int, int], None]

# Whose a checkpoint is; the store's own have no word.
STORED = ""
KEPT = "the checkpoint brought along"
SIGNED_LAST = "the checkpoint that the signer recorded last"
# (size, checkpoint, whose)
_Due = tuple[int, Checkpoint, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found.

    Attributes:
        status: 0 whole, 1 tampered, 4 incomplete, 5 cannot tell.
        origin: The log's name.
        size: Number of leaves by the log's own account.
        checked: Leaves derived again.
        root: Their root, hex.
        checkpoints: Signed checkpoints that hold.
        signed_size: Size of the newest of them: later leaves are covered by none yet.
        first_bad: The first leaf that is wrong; None: no single one is to blame.
        problem: What is wrong, empty if nothing is.
        ends: How many emitters ended in which state (whole, cut, gap, torn) or still live.
        refused: How many times bytes were refused.
        kept_size: Size of the checkpoint that was brought along; None: none was.
        badly_ended: The recordings that are cut, torn, have gaps or were refused, by name.
        pruned_below: Leaves below it are there by their hashes alone, as a trail.prune says.
    """

    status: int
    origin: str = ""
    size: int = 0
    checked: int = 0
    root: str = ""
    checkpoints: int = 0
    signed_size: int = 0
    first_bad: int | None = None
    problem: str = ""
    ends: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    kept_size: int | None = None
    badly_ended: Endings = field(default_factory=Endings)
    pruned_below: int = 0

    def raise_for_status(self) -> None:
        """Return if the log is whole.

        Raises:
            AuditLogError: It was tampered with or has holes; `index` is the first bad leaf.
            PolicyError: It cannot be told.
        """
        if self.status == CANNOT_TELL:
            raise PolicyError(self.problem, why="signer_not_accepted")
        if self.status:
            raise AuditLogError(self.problem, index=self.first_bad)


def verify_log(
    log: WholeLog,
    keys: Sequence[LogKey],
    *,
    kept: str | None = None,
    signed_last: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify a log: leaves, chains, tiles, edge, checkpoints, the store's structure.

    Args:
        log: One consistent view of what is stored.
        keys: Keys that may sign checkpoints; from elsewhere, not from beside the log.
        kept: A checkpoint's note that somebody kept; the only thing that shows a log rolled back
            together with its signer.
        signed_last: The signer's own record of its last note, where it can be read (before the
            view was taken). It shows a store rolled back alone.
        progress: Called with (leaves done, leaves in all).

    Returns:
        The report; nothing found in the log is raised.
    """
    run = _Run(log=log, keys=keys, chains=Chains(log))
    try:
        return run.verify(kept, signed_last, progress or (lambda done, total: None))
    except AuditLogError as error:
        return run.report(TAMPERED, str(error), error.index)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One verification."""

    log: WholeLog
    keys: Sequence[LogKey]
    chains: Chains
    origin: str = ""
    size: int = 0
    edge: Edge = field(default_factory=Edge)
    endings: EndTracker = field(default_factory=EndTracker)
    refused: int = 0
    checkpoints: int = 0
    signed_size: int = 0
    tiles: int = 0
    kept: Checkpoint | None = None
    signed_last: Checkpoint | None = None
    pruned_below: int = 0
    holds: Holds = field(default_factory=Holds)
    hand_overs: HandOvers = field(default_factory=HandOvers)
    prunings: list[tuple[int, int]] = field(default_factory=list)

    def verify(self, kept: str | None, signed_last: str | None, progress: Progress) -> Report:
        self.origin = self.log.origin()
        stored = self.log.edge()
        self.size = stored.size
        if not self.keys:
            return self.report(CANNOT_TELL, "no key of the log is known; give log_keys")
        if kept is not None:
            try:
                self.kept = open_checkpoint(kept, self.keys, origin=self.origin)
            except SecureMLError as error:
                return self.report(CANNOT_TELL, f"the checkpoint brought along: {error}")
        if signed_last is not None:
            self.signed_last = self._open_last(signed_last)
        self._derive(progress)
        self._check_pruned()
        self.hand_overs.check(
            self.keys, origin=self.origin, size=self.edge.size, pruned_below=self.pruned_below
        )
        self._check_structure(stored)
        hole = self.chains.first_hole()
        if hole is not None:
            return self.report(INCOMPLETE, f"events are missing before leaf {hole}", hole)
        # The empty log's checkpoint, which every signer makes first, covers nothing.
        if self.size and not self.signed_size:
            return self.report(INCOMPLETE, "no checkpoint was signed yet", 0)
        return self.report(WHOLE, "")

    def report(self, status: int, problem: str, first_bad: int | None = None) -> Report:
        return Report(
            status=status,
            origin=self.origin,
            size=self.size,
            checked=self.edge.size,
            root=self.edge.root().hex(),
            checkpoints=self.checkpoints,
            signed_size=self.signed_size,
            first_bad=first_bad,
            problem=problem,
            ends=self.chains.ends(),
            refused=self.refused,
            kept_size=None if self.kept is None else self.kept.size,
            badly_ended=self.endings.endings(),
            pruned_below=self.pruned_below,
        )

    def _derive(self, progress: Progress) -> None:
        """Hash leaf by leaf, comparing roots at every size that somebody signed."""
        signed = self._signed()
        due = next(signed, None)
        chunk: list[bytes] = []
        for index, data, stored_hash in self._entries():
            at = self.edge.size + len(chunk)
            if due is not None and due[0] == at:
                self._extend(chunk)
                due = self._compare(due, signed)
            if index != at:
                raise _bad(min(index, at), "is missing, or another stands in its place")
            chunk.append(stored_hash)
            if data is not None:
                if leaf_hash(data) != stored_hash:
                    raise _bad(at, "does not give its stored hash; it was changed")
                self._read(at, data, stored_hash)
            if len(chunk) >= CHUNK:
                self._extend(chunk)
                progress(self.edge.size, self.size)
        self._extend(chunk)
        while due is not None and due[0] == self.edge.size:
            due = self._compare(due, signed)
        progress(self.edge.size, self.size)
        if due is not None:
            whose = due[2] or "a checkpoint"
            raise _bad(self.edge.size, f"is missing: {whose} over {due[0]} leaves was signed")

    def _entries(self) -> Iterator[tuple[int, bytes | None, bytes]]:
        """(index, data, hash) by index; without data where only a tile holds the hash."""
        leaves = self.log.leaves()
        for first in leaves:
            if first[0] and not first[0] % TILE_WIDTH:
                yield from self._pruned(first[0])
            yield first
            break
        yield from leaves

    def _pruned(self, below: int) -> Iterator[tuple[int, None, bytes]]:
        """What is left of the leaves below the first that is stored: their hashes, in tiles."""
        self.pruned_below = below
        self.chains.is_pruned = True
        for n in range(below // TILE_WIDTH):
            tile = self.log.tile(0, n) or b""
            if len(tile) != TILE_BYTES:
                raise _bad(n * TILE_WIDTH, "is missing, and no tile holds its hash")
            for at in range(TILE_WIDTH):
                yield n * TILE_WIDTH + at, None, tile[at * HASH_BYTES :][:HASH_BYTES]

    def _check_pruned(self) -> None:
        """Bytes may be missing only where a signed leaf of the sequencer's says so."""
        said = [below for at, below in self.prunings if at < self.signed_size]
        if self.pruned_below > max(said, default=0):
            raise _bad(0, "is missing, and no signed trail.prune says so; it was cut out")

    def _signed(self) -> Iterator[_Due]:
        """Every checkpoint by size: those stored, and those from elsewhere."""
        elsewhere = [
            (found.size, found, whose)
            for found, whose in ((self.kept, KEPT), (self.signed_last, SIGNED_LAST))
            if found is not None
        ]
        stored = ((size, self._open(size, note), STORED) for size, note in self.log.checkpoints())
        by_size = sorted(elsewhere, key=lambda due: due[0])
        return heapq.merge(by_size, stored, key=lambda due: due[0])

    def _open_last(self, note: str) -> Checkpoint | None:
        try:
            return open_checkpoint(note, self.keys, origin=self.origin)
        except PolicyError:
            # Signed by a key that the reader does not know: it tells them nothing.
            return None
        except SecureMLError as error:
            raise AuditLogError(f"{SIGNED_LAST}: {error}") from error

    def _open(self, size: int, note: str) -> Checkpoint:
        try:
            found = open_checkpoint(note, self.keys, origin=self.origin)
        except SecureMLError as error:
            raise AuditLogError(f"checkpoint over {size} leaves: {error}") from error
        if found.size != size:
            raise AuditLogError(f"checkpoint over {size} leaves: its note says {found.size}")
        return found

    def _compare(
        self,
        due: _Due,
        signed: Iterator[_Due],
    ) -> _Due | None:
        size, checkpoint, elsewhere = due
        root = self.edge.root() if size else EMPTY_ROOT
        if root != checkpoint.root:
            whose = elsewhere or f"the checkpoint over {size}"
            raise AuditLogError(
                f"audit log: {whose} has another root; a leaf from {self.signed_size} to "
                f"{size - 1} was changed",
                index=self._suspect(self.signed_size, self.signed_size),
            )
        if not elsewhere:
            self.checkpoints += 1
            self.signed_size = size
        following = next(signed, None)
        # One size may be signed and brought along as well.
        if following is not None and following[0] == size:
            return self._compare(following, signed)
        return following

    def _suspect(self, low: int, otherwise: int) -> int:
        """The first leaf from `low` on that does not fit its emitter's chain, if there is one."""
        found = self.chains.first_broken(low)
        return otherwise if found is None else found

    def _extend(self, chunk: list[bytes]) -> None:
        """Append to the edge and hold each tile that becomes full against the stored one."""
        old = self.edge.size
        built = build_tiles(old, chunk, self.log.leaf_hashes, self.log.tile)
        for (level, n), hashes in built.items():
            if self.log.tile(level, n) != hashes:
                at = n * TILE_WIDTH ** (level + 1)
                raise AuditLogError(
                    f"audit log: tile {level}/{n} is not what its leaves give",
                    index=at if level else at + _differing(hashes, self.log.tile(level, n)),
                )
        self.tiles += len(built)
        self.edge = self.edge.append(chunk)
        chunk.clear()

    def _read(self, at: int, data: bytes, found: bytes) -> None:
        try:
            event = parse_event(data)
        except SecureMLError as error:
            raise _bad(at, f"is not an event: {error}") from error
        self.chains.add(at, event, found)
        self._note(at, event)
        self.endings.note(event)

    def _note(self, at: int, event: dict[str, Any]) -> None:
        more, act = event.get("more", {}), event["act"]
        if act == "trail.start" and at:
            raise _bad(at, "says that a log begins here")
        if at == 0 and (act != "trail.start" or more.get("origin") != self.origin):
            raise _bad(0, f"does not begin the log {self.origin!r}")
        self.chains.note(at, event)
        self.refused += act == "trail.refused"
        self.holds.note(at, event)
        self.hand_overs.note(at, event)
        if act == "trail.prune" and event["phase"] == "intent":
            below = pruned_to(event)
            if below > self.holds.lowest(otherwise=at):
                raise _bad(at, f"prunes below {below}, which a hold forbids")
            self.prunings.append((at, below))

    def _check_structure(self, stored: Edge) -> None:
        if self.edge != stored:
            raise AuditLogError(
                f"audit log: {self.edge.size} leaves, its table says {stored.size} with "
                f"{'this' if self.edge.size == stored.size else 'another'} edge; it was cut or "
                "added to",
                index=self._suspect(0, min(self.edge.size, stored.size)),
            )
        if len(self.log.tiles()) != self.tiles:
            raise AuditLogError("audit log: tiles are stored that no leaves stand behind")
        faults = self.log.faults()
        if faults:
            raise AuditLogError(f"audit log: {'; '.join(faults)}")


def _differing(derived: bytes, stored: bytes | None) -> int:
    """Which hash of a tile differs first; 0 if the tile is not there."""
    steps = range(0, len(derived), HASH_BYTES)
    kept = stored or b""
    return next(
        (at // HASH_BYTES for at in steps if derived[at:][:HASH_BYTES] != kept[at:][:HASH_BYTES]), 0
    )


def _bad(index: int, what: str) -> AuditLogError:
    return AuditLogError(f"audit log: leaf {index} {what}", index=index)
