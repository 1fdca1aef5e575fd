"""Prove one event to someone who has nothing but the log's public key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.tlog_proof import TlogProof
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.services.proving import prove

HOW = (
    "SHA-256(00, leaf) is the leaf hash; fold the path as RFC 9162, 2.1.3.2 says; compare with the "
    "checkpoint's root; check its signature (C2SP signed-note) with a log key from elsewhere."
)


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
        exported: The proof as `services.proving.check_proof` reads it.
    """

    index: int
    tree_size: int
    path: tuple[str, ...]
    root: str
    note: str
    signer: str
    vkeys: tuple[str, ...]
    exported: Mapping[str, Any]

    @property
    def size(self) -> str:
        """The tree's size for a reader."""
        return f"{self.tree_size:,}"

    def as_tlog_proof(self) -> str:
        """The proof with its event as a `.tlog-proof`, which C2SP tools read."""
        return TlogProof(
            index=self.index,
            path=tuple(bytes.fromhex(step) for step in self.path),
            note=self.note,
            extra=str(self.exported["leaf"]).encode("utf-8"),
        ).encode()

    def as_file(self) -> dict[str, Any]:
        """The proof with its event, as it is downloaded."""
        return {**self.exported, "log_keys": list(self.vkeys), "how": HOW}


def prove_event(trail: Trail, leaf: Leaf) -> Proof | None:
    """Prove that a leaf is in the log.

    Returns:
        The proof against the newest checkpoint that holds; None if none covers the leaf. Whether
        the proof is right is for the reader to check: the store may be a tampered one.
    """
    checkpoint = trail.signed().checkpoint
    if checkpoint is None or leaf.index >= checkpoint.size:
        return None
    exported = prove(trail.store, leaf.index)
    return Proof(
        index=leaf.index,
        tree_size=exported["size"],
        path=tuple(exported["path"]),
        root=checkpoint.root.hex(),
        note=exported["checkpoint"],
        signer=checkpoint.origin,
        vkeys=tuple(key.vkey() for key in trail.log_keys()),
        exported=exported,
    )
