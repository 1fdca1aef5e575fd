"""Hash a log's leaves into a Merkle tree, and prove what the tree holds.

A tree's hashes are reached through a `NodeReader`, so a proof over a million leaves reads a few
dozen hashes. Who signs a root is `core.audit.checkpoint`'s business.

Source: RFC 6962, 2.1; RFC 9162, 2.1.3.2 and 2.1.4.2 (verification).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from airflow_secure_ml.errors import AuditLogError, FormatError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

# (level, n) → hash of the full subtree over leaves n·2^level … (n+1)·2^level - 1.
NodeReader = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf's bytes; 32 bytes."""
    # RFC 6962, 2.1: the prefix keeps a leaf from passing as a node.
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees' hashes into their parent's; 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """All that is needed of a tree to append to it and to know its root.

    Attributes:
        size: Number of leaves.
        nodes: Roots of its full subtrees, largest first; one per set bit of `size`.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise FormatError(
                f"log edge: {len(self.nodes)} subtrees, {self.size} leaves have "
                f"{max(self.size, 0).bit_count()}"
            )
        if any(len(node) != HASH_BYTES for node in self.nodes):
            raise FormatError(f"log edge: a subtree's hash is not {HASH_BYTES} bytes long")

    def append(self, hashes: Iterable[bytes]) -> Edge:
        """The edge after these leaf hashes, oldest first."""
        size, nodes = self.size, list(self.nodes)
        for node in hashes:
            merged, rest = node, size
            while rest & 1:
                merged = node_hash(nodes.pop(), merged)
                rest >>= 1
            nodes.append(merged)
            size += 1
        return Edge(size=size, nodes=tuple(nodes))

    def root(self) -> bytes:
        """The tree's root; SHA-256 of nothing if it is empty."""
        return _fold_right(self.nodes)

    def to_bytes(self) -> bytes:
        """The nodes one after the other, as the store keeps them."""
        return b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Edge:
        """Read what `to_bytes` made.

        Raises:
            FormatError: The length does not fit the size.
        """
        steps = range(0, len(data), HASH_BYTES)
        return cls(size=size, nodes=tuple(data[at : at + HASH_BYTES] for at in steps))

    @classmethod
    def read(cls, size: int, node: NodeReader) -> Edge:
        """Collect the edge of the first `size` leaves from a tree at least that large."""
        return cls(size=size, nodes=tuple(_subtrees(0, size, node)))


def root_of(hashes: Iterable[bytes]) -> bytes:
    """The root over leaf hashes, oldest first."""
    return Edge().append(hashes).root()


def inclusion_path(index: int, size: int, node: NodeReader) -> tuple[bytes, ...]:
    """Prove that leaf `index` is in the tree of `size` leaves.

    Args:
        index: The leaf, from 0; below `size`.
        size: Number of leaves of the tree to prove against.
        node: Reads the tree's hashes.

    Returns:
        The audit path, lowest sibling first.

    Raises:
        ValueError: `index` is not in the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    path, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(middle, high, node))
            high = middle
        else:
            path.append(_range_root(low, middle, node))
            low = middle
    return tuple(reversed(path))


def root_from_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to; compare it with a signed one.

    Args:
        index: The leaf's place, from 0.
        size: Number of leaves of the tree.
        leaf: The leaf's hash, 32 bytes.
        path: The audit path, lowest sibling first.

    Raises:
        AuditLogError: The path's length does not fit index and size.
    """
    if not 0 <= index < size:
        raise AuditLogError(f"proof: leaf {index} in a tree of {size} leaves", index=index)
    here, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise AuditLogError("proof: the path is too long", index=index)
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise AuditLogError("proof: the path is too short", index=index)
    return found


def consistency_proof(old: int, new: int, node: NodeReader) -> tuple[bytes, ...]:
    """Prove that the first `old` leaves of the tree of `new` leaves are the older tree.

    Raises:
        ValueError: `old` is negative or larger than `new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not extend one of {old}")
    if old in (0, new):
        return ()
    proof, low, high, end = [], 0, new, old
    is_whole = True
    while end != high:
        middle = low + _split(high - low)
        if end <= middle:
            proof.append(_range_root(middle, high, node))
            high = middle
        else:
            proof.append(_range_root(low, middle, node))
            low, is_whole = middle, False
    if not is_whole:
        proof.append(_range_root(low, high, node))
    return tuple(reversed(proof))


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the proof shows that the new tree extends the old one.

    Raises:
        AuditLogError: It does not: the new tree is smaller, or another below `old`.
    """
    if old > new or old < 0:
        raise AuditLogError(f"log: {new} leaves, a checkpoint over {old} exists; it was cut")
    if old in (0, new):
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or not hmac.compare_digest(old_root, expected):
            raise AuditLogError(f"log: its first {old} leaves are not those of the older root")
        return
    older, newer = _roots_from_consistency(old, old_root, new, proof)
    fits = hmac.compare_digest(older, old_root) and hmac.compare_digest(newer, new_root)
    if not fits:
        raise AuditLogError(f"log: its first {old} leaves are not those of the older root")


def _roots_from_consistency(
    old: int, old_root: bytes, new: int, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    # RFC 9162, 2.1.4.2: a full older tree is left out of the proof.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise AuditLogError("proof: the consistency proof is too short")
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise AuditLogError("proof: the consistency proof is too long")
        if here & 1 or here == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise AuditLogError("proof: the consistency proof is too short")
    return older, newer


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtrees(low: int, high: int, node: NodeReader) -> list[bytes]:
    """Full subtrees over leaves low … high-1, largest first; `low` is aligned as RFC 6962 cuts."""
    found = []
    while low < high:
        level = (high - low).bit_length() - 1
        found.append(node(level, low >> level))
        low += 1 << level
    return found


def _range_root(low: int, high: int, node: NodeReader) -> bytes:
    return _fold_right(_subtrees(low, high, node))


def _fold_right(nodes: Sequence[bytes]) -> bytes:
    if not nodes:
        return EMPTY_ROOT
    found = nodes[-1]
    for left in reversed(nodes[:-1]):
        found = node_hash(left, found)
    return found
