"""Have a log's newest state signed, after deriving it again from the leaves' bytes.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (the order).
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_secure_ml.core.audit.log_key import LogKey
from airflow_secure_ml.core.audit.ports import CheckpointSigner, LogWriter
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import (
    EMPTY_ROOT,
    Edge,
    NodeReader,
    consistency_proof,
    inclusion_path,
    leaf_hash,
)
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.own_events import Clock


class Checkpointer:
    """Makes checkpoints of one log.

    Args:
        log: The log.
        signer: Its key and the last checkpoint signed.
        clock: Where `signed_ms` comes from.
    """

    def __init__(self, *, log: LogWriter, signer: CheckpointSigner, clock: Clock) -> None:
        self._log, self._signer, self._clock = log, signer, clock
        self._signed: Edge | None = None

    def make(self) -> str:
        """Sign and publish a checkpoint over the whole log; returns the note.

        Raises:
            AuditLogError: The log does not extend what was signed last, its leaves do not give
                its stored hashes, or nothing tells what was signed last.
        """
        size, edge = self._derived()
        note = self._signer.sign(
            edge.size, edge.root(), consistency_proof(size, edge.size, self._node())
        )
        return self._published(note, edge)

    def successors(self) -> Sequence[LogKey]:
        """The keys that wait for the log to be handed over to them; empty: none do."""
        return self._signer.successors()

    def hand_over(self) -> str:
        """Sign for the last time with the keys in use; returns the note.

        The log's last leaf is the trail.key that says so.

        Raises:
            AuditLogError: As `make`, or the last leaf says something else.
        """
        size, edge = self._derived()
        [leaf] = self._log.leaf_data(edge.size - 1, edge.size)
        node = self._node()
        note = self._signer.hand_over(
            edge.size,
            edge.root(),
            consistency_proof(size, edge.size, node),
            leaf,
            inclusion_path(edge.size - 1, edge.size, node),
        )
        return self._published(note, edge)

    def adopt(self) -> str:
        """Sign the log as it is, although nothing tells what was signed last; returns the note.

        Raises:
            AuditLogError: The leaves do not give the stored root.
            ConfigurationError: What was signed last is known: nothing has to be adopted.
        """
        stored = self._log.edge()
        first = self._log.first_leaf()
        hashes = [leaf_hash(data) for data in self._log.leaf_data(first, stored.size)]
        if Edge.read(first, self._node()).append(hashes) != stored:
            raise AuditLogError(
                f"audit log {self._log.origin()}: its leaves do not give its stored root; "
                "nothing is adopted",
                index=self._first_bad(first, hashes),
            )
        return self._published(self._signer.adopt(stored.size, stored.root()), stored)

    def _derived(self) -> tuple[int, Edge]:
        """The size signed last, and the log's edge, made anew from its leaves since then."""
        stored = self._log.edge()
        size, root = self._signer.last()
        edge = self._signed_edge(size, root, stored.size)
        hashes = [leaf_hash(data) for data in self._log.leaf_data(size, stored.size)]
        derived = edge.append(hashes)
        if derived != stored:
            raise AuditLogError(
                f"audit log {self._log.origin()}: its leaves from {size} on do not give its "
                f"stored root over {stored.size}; no checkpoint is signed",
                index=self._first_bad(size, hashes),
            )
        return size, derived

    def _node(self) -> NodeReader:
        return node_reader(self._log.leaf_hashes, self._log.tile)

    def _published(self, note: str, edge: Edge) -> str:
        self._log.publish(note, size=edge.size, signed_ms=self._clock.now_ms())
        self._signed = edge
        return note

    def _signed_edge(self, size: int, root: bytes, stored_size: int) -> Edge:
        """The edge of what was signed last; from the store, and so only if it gives that root."""
        if size > stored_size:
            raise AuditLogError(
                f"audit log {self._log.origin()}: {stored_size} leaves, {size} were signed; it "
                "was cut or rolled back",
                index=stored_size,
            )
        edge = self._signed
        if edge is None or edge.size != size:
            edge = Edge.read(size, node_reader(self._log.leaf_hashes, self._log.tile))
        if (edge.root() if size else EMPTY_ROOT) != root:
            raise AuditLogError(
                f"audit log {self._log.origin()}: its first {size} leaves are not those that "
                "were signed"
            )
        return edge

    def _first_bad(self, start: int, hashes: list[bytes]) -> int | None:
        stored = self._log.leaf_hashes(start, start + len(hashes))
        for at, (derived, kept) in enumerate(zip(hashes, stored, strict=False)):
            if derived != kept:
                return start + at
        return None
