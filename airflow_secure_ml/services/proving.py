"""Prove to someone who has only a checkpoint that an event is in the log.

Source: AUDIT_TRAIL, Tree, checkpoint, signer; RFC 6962, 2.1.1; C2SP tlog-proof.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    LogKey,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from airflow_secure_ml.core.audit.ports import ProvableStore, TileSource
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tlog_proof import TlogProof
from airflow_secure_ml.core.audit.tree import inclusion_path, leaf_hash, root_from_path
from airflow_secure_ml.errors import AuditLogError, FormatError


def prove(store: ProvableStore, index: int) -> dict[str, Any]:
    """Collect the proof that a leaf is in the tree of the newest checkpoint.

    Args:
        store: The log.
        index: The leaf, from 0.

    Returns:
        origin, index, leaf (text), hash (hex), size, path (hex, lowest first), checkpoint (the
        note). The last three are 0, empty and None while no checkpoint covers the leaf, which is
        for about a second.

    Raises:
        AuditLogError: No such leaf, or the log's hashes are incomplete.
    """
    leaf = store.leaf(index)
    if leaf is None:
        raise AuditLogError(f"audit log: there is no leaf {index}", index=index)
    proof: dict[str, Any] = {
        "origin": store.origin(),
        "index": index,
        "leaf": leaf.data.decode("utf-8", "replace"),
        "hash": leaf_hash(leaf.data).hex(),
    }
    note = store.checkpoint()
    size = 0 if note is None else parse_checkpoint(parse_note(note).text).size
    if note is None or size <= index:
        return {**proof, "size": 0, "path": [], "checkpoint": None}
    path = inclusion_path(index, size, node_reader(store.leaf_hashes, store.tile))
    return {**proof, "size": size, "path": [step.hex() for step in path], "checkpoint": note}


def check_proof(
    proof: Mapping[str, Any], keys: Iterable[LogKey], *, origin: str | None = None
) -> Checkpoint:
    """Check what `prove` made, with nothing but public keys.

    Args:
        proof: The exported proof.
        keys: Keys that may sign the log, from elsewhere.
        origin: The log it must be of; None: whichever a key names.

    Returns:
        The checkpoint that the leaf is under.

    Raises:
        AuditLogError: The path does not lead from the leaf to the signed root.
        FormatError: It is not a proof.
        SignatureError: A known key's signature does not hold.
        PolicyError: The checkpoint is signed by no known key.
    """
    try:
        data, index = proof["leaf"].encode("utf-8"), int(proof["index"])
        path = [bytes.fromhex(step) for step in proof["path"]]
        note = str(proof["checkpoint"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError("proof: expected index, leaf, path and checkpoint") from error
    checkpoint = open_checkpoint(note, keys, origin=origin)
    if not 0 <= index < checkpoint.size:
        raise AuditLogError(
            f"proof: leaf {index} is not under a checkpoint of {checkpoint.size}", index=index
        )
    root = root_from_path(index, checkpoint.size, leaf_hash(data), path)
    if not hmac.compare_digest(root, checkpoint.root):
        raise AuditLogError(
            f"proof: leaf {index} does not lead to the signed root; it was changed", index=index
        )
    return checkpoint


def prove_leaf(hashes: TileSource, index: int, leaf: bytes, note: str) -> TlogProof:
    """Prove that a leaf is in the tree of a checkpoint, in the form that C2SP tools read.

    Args:
        hashes: The log's hashes.
        index: The leaf, from 0.
        leaf: Its bytes, which the proof carries as `extra`.
        note: The checkpoint, with every line that it is to be given out with.

    Raises:
        AuditLogError: The checkpoint does not cover the leaf yet, or the log's hashes are
            incomplete.
    """
    size = parse_checkpoint(parse_note(note).text).size
    if index >= size:
        raise AuditLogError(
            f"audit log: leaf {index} is not under a checkpoint yet, the newest covers {size}; try "
            "again in a moment",
            index=index,
        )
    path = inclusion_path(index, size, node_reader(hashes.leaf_hashes, hashes.tile))
    return TlogProof(index=index, path=path, note=note, extra=leaf)


def check_leaf_proof(
    proof: TlogProof,
    keys: Iterable[LogKey],
    *,
    leaf: bytes | None = None,
    origin: str | None = None,
) -> Checkpoint:
    """Check a `.tlog-proof` with nothing but public keys.

    Args:
        proof: The proof.
        keys: Keys that may sign the log, from elsewhere.
        leaf: The event's bytes; None: those that the proof carries.
        origin: The log it must be of; None: whichever a key names.

    Returns:
        The checkpoint that the leaf is under.

    Raises:
        AuditLogError: The path does not lead from the leaf to the signed root.
        FormatError: There is no leaf, in the proof or beside it.
        SignatureError: A known key's signature does not hold.
        PolicyError: The checkpoint is signed by no known key.
    """
    data = proof.extra if leaf is None else leaf
    if data is None:
        raise FormatError("proof: it holds no event; give the event's bytes beside it")
    checkpoint = open_checkpoint(proof.note, keys, origin=origin)
    root = root_from_path(proof.index, checkpoint.size, leaf_hash(data), proof.path)
    if not hmac.compare_digest(root, checkpoint.root):
        raise AuditLogError(
            f"proof: leaf {proof.index} does not lead to the signed root; it was changed",
            index=proof.index,
        )
    return checkpoint
