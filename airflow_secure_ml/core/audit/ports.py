"""What the sequencer and the verifier need from the outside, as protocols and values.

Readers of a log need only `core.ports.AuditStore`; this is what writes one and re-derives one.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_secure_ml.core.audit.log_key import LogKey
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.core.redaction import Aside


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitterRow:
    """How far an emitter's events are in the log.

    Attributes:
        id: The emitter, 32 hex digits.
        next_seq: The seq expected next.
        last: Leaf hash of its newest event; None: none yet.
        part: The segment part that `at` counts in.
        at: Bytes of that part that were read.
        state: `live`, `gap` (live, with a hole), the state that was recorded at its end (`whole`,
            `cut`, `gap_ended`, `torn`), or `sequencer` and `sequencer_ended` for the log's own.
        first_ms: Time of its first event, ms since 1970 UTC.
        last_ms: Time of its newest event.
    """

    id: str
    next_seq: int = 0
    last: bytes | None = None
    part: int = 0
    at: int = 0
    state: str = "live"
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLeaf:
    """A leaf about to be appended.

    Attributes:
        data: The event's bytes.
        hash: Their leaf hash.
        event: `data`, parsed.
    """

    data: bytes
    hash: bytes
    event: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction adds to a log.

    Attributes:
        old_size: The log's size before; the store refuses if it is another.
        leaves: New leaves, in order.
        edge: The edge after them.
        tiles: Tiles that became full: (level, n) → 8192 bytes.
        emitters: Rows that changed.
        asides: Hidden values that came with the events.
    """

    old_size: int
    leaves: Sequence[NewLeaf] = ()
    edge: Edge
    tiles: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    emitters: Sequence[EmitterRow] = ()
    asides: Sequence[Aside] = ()


class TileSource(Protocol):
    """A log's hashes: what proofs are made from."""

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""


class ProvableStore(AuditStore, TileSource, Protocol):
    """A log that proofs can be made from without reading all of it."""


class LogWriter(TileSource, Protocol):
    """A log as its one sequencer sees it."""

    def origin(self) -> str:
        """The log's name."""

    def edge(self) -> Edge:
        """The stored edge."""

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""

    def emitter(self, emitter: str) -> EmitterRow | None:
        """An emitter's row; None: nothing of it is in the log."""

    def event_hash(self, emitter: str, seq: int) -> bytes | None:
        """Leaf hash of an event by its name; None: not in the log."""

    def event_count(self, emitter: str) -> int:
        """How many of an emitter's events are in the log."""

    def found(self, emitter: str) -> bytes | None:
        """The leaf before an emitter's first, in which a sequencer says where it found it.

        None: no leaf of it is there, or none before; after a pruning it may be any other leaf.
        """

    def has_refused(self, leaf_hash: str) -> bool:
        """Whether a trail.refused names the bytes of this hex leaf hash already."""

    def leaf_data(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of the leaves start … stop-1, as stored."""

    def append(self, batch: Batch) -> None:
        """Add a batch whole, durably, or not at all.

        Raises:
            AuditLogError: The log's size is not `batch.old_size`.
        """

    def publish(self, note: str, *, size: int, signed_ms: int) -> None:
        """Keep a signed checkpoint."""

    def first_leaf(self) -> int:
        """Index of the first leaf whose bytes are there; 0 unless the log was pruned."""

    def prune(self, below: int) -> None:
        """Remove the bytes of the leaves below an index, and what lies aside of them alone.

        Hashes stay in full tiles; a hidden value that a leaf which stays names stays as well.

        Broken off at any point, it leaves a beginning of whole tiles removed, and may be repeated.

        Args:
            below: A multiple of 256, at most the log's size.

        Raises:
            AuditLogError: A tile that would hold their hashes is not there; nothing is removed.
            ServiceRefusedError: This login may not remove leaves.
        """


class WholeLog(TileSource, Protocol):
    """One consistent view of everything that a log stores, as it is stored."""

    def origin(self) -> str:
        """The log's name."""

    def edge(self) -> Edge:
        """The stored edge, with the stored size."""

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(index, data, stored hash) by index; holes are not filled."""

    def tiles(self) -> Collection[tuple[int, int]]:
        """(level, n) of every stored tile."""

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """(stored size, note) by size."""

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""

    def event(self, emitter: str, seq: int) -> tuple[int, bytes] | None:
        """(index, data) of an event by its name; None: not in the log."""

    def faults(self) -> Sequence[str]:
        """What the store finds wrong with its own structure; nothing: sound."""


class AuditReader(ProvableStore, Protocol):
    """A log beside its writer, whatever store it lies in; safe from many threads."""

    def whole(self) -> AbstractContextManager[WholeLog]:
        """One consistent view of everything that is stored, for as long as it is open."""


class CheckpointSigner(Protocol):
    """A log's key, and the record of the last checkpoint it signed."""

    @property
    def origin(self) -> str:
        """The log that it signs for."""

    def last(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed.

        Raises:
            AuditLogError: The record is missing: someone has to adopt the log.
        """

    def sign(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Sign a tree that extends the last one; durable before it returns the note.

        Args:
            size: Number of leaves.
            root: The tree's root.
            proof: Consistency proof from the last signed size.

        Raises:
            AuditLogError: Smaller than the last one signed, or not an extension of it.
        """

    def successors(self) -> Sequence[LogKey]:
        """The keys that are to follow those in use; empty: none were made."""

    def hand_over(
        self, size: int, root: bytes, proof: Sequence[bytes], leaf: bytes, path: Sequence[bytes]
    ) -> str:
        """Sign for the last time with the keys in use; their successors sign all larger trees.

        Args:
            size: Number of leaves.
            root: The tree's root.
            proof: Consistency proof from the last signed size.
            leaf: The tree's last leaf, the trail.key that names the successors.
            path: Its audit path.

        Raises:
            AuditLogError: As `sign`, or the leaf is not that, or not in the tree.
            ConfigurationError: There are no successors.
        """

    def adopt(self, size: int, root: bytes) -> str:
        """Go on from a tree although the record is missing; returns the note.

        Raises:
            ConfigurationError: The record is there: nothing has to be adopted.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A spool segment as the sequencer follows it, by an open descriptor.

    Attributes:
        token: Names this very file for as long as it is followed.
        emitter: From its file name, 32 hex digits.
        part: From its file name, from 0.
        owner_uid: Whose file it is; None: it is none.
        is_held: Whether its writer still holds the lock.
        size_bytes: Its length, looked at after the lock.
        is_stamped: Whether it lies where a receiver alone writes, so that its stamp is believed.
    """

    token: str
    emitter: str
    part: int
    owner_uid: int | None
    is_held: bool
    size_bytes: int
    is_stamped: bool = False


class SegmentSource(Protocol):
    """The spool directories of one machine."""

    def scan(self) -> Sequence[Segment]:
        """Every segment, by emitter and part; new files are opened, unlinked ones stay.

        What is not a plain file of that name is left alone and never followed.
        """

    def read(self, token: str, at: int, length: int) -> bytes:
        """Up to `length` bytes of a segment from `at`."""

    def remove(self, tokens: Collection[str]) -> None:
        """Let go of segments that are whole in the log, unlink them, make that durable."""

    def keep_refused(self, leaf_hash: str, data: bytes) -> bool:
        """Keep refused bytes for inspection; False: the space set aside for them is used up."""
