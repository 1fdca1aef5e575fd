"""Prove one event to someone who has nothing but the log's public key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import inclusion_path
from airflow_secure_ml.plugin.trail import Trail

PROOF_FORMAT = "airflow-secure-ml proof, version 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The way from a leaf to a signed root.

    Attributes:
        index: The leaf's place.
        tree_size: Size of the tree that the checkpoint signs.
        path: The audit path, lowest sibling first, hex.
        root: The signed root, hex.
        note: The checkpoint, whole.
        signer: Whose key signed it.
        vkeys: The log keys, as this server names them.
    """

    index: int
    tree_size: int
    path: tuple[str, ...]
    root: str
    note: str
    signer: str
    vkeys: tuple[str, ...]

    @property
    def size(self) -> str:
        """The tree's size for a reader."""
        return f"{self.tree_size:,}"

    def as_file(self, leaf: Leaf) -> Mapping[str, Any]:
        """The proof with its event, as it is downloaded."""
        return {
            "format": PROOF_FORMAT,
            "event": leaf.data.decode("utf-8"),
            "leaf_hash": leaf.hash.hex(),
            "index": self.index,
            "path": list(self.path),
            "checkpoint": self.note,
            "log_keys": list(self.vkeys),
            "how": (
                "SHA-256(00, event) is the leaf hash; fold the path as RFC 9162, 2.1.3.2 says; "
                "compare with the checkpoint's root; check its signature with a log key that you "
                "got elsewhere (C2SP signed-note)."
            ),
        }


def prove_event(trail: Trail, leaf: Leaf) -> Proof | None:
    """Prove that a leaf is in the log.

    Returns:
        The proof against the newest checkpoint that holds; None if none covers the leaf. Whether
        the proof is right is for the reader to check: the store may be a tampered one.
    """
    signed = trail.signed()
    checkpoint = signed.checkpoint
    if checkpoint is None or leaf.index >= checkpoint.size:
        return None
    reader = node_reader(trail.store.leaf_hashes, trail.store.tile)
    path = inclusion_path(leaf.index, checkpoint.size, reader)
    return Proof(
        index=leaf.index,
        tree_size=checkpoint.size,
        path=tuple(node.hex() for node in path),
        root=checkpoint.root.hex(),
        note=signed.note,
        signer=checkpoint.origin,
        vkeys=tuple(key.vkey() for key in trail.log_keys()),
    )
