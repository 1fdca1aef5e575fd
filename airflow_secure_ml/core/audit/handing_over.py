"""What the log says when one key hands over to the next, and whether a leaf says that.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (`log_keys`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.log_key import ED25519, ML_DSA_65, LogKey
from airflow_secure_ml.core.audit.tree import leaf_hash, root_from_path
from airflow_secure_ml.errors import AuditLogError, FormatError


def announcement(new: Sequence[LogKey], *, size: int) -> dict[str, Any]:
    """What trail.key says, the last leaf of a log of `size` leaves.

    Args:
        new: Who signs every larger tree: an Ed25519 key, and perhaps an ML-DSA-65 key.
        size: Number of leaves with this one; the keys in use sign nothing larger.
    """
    kinds = {key.algorithm: key for key in new}
    more: dict[str, Any] = {
        "vkey": kinds[ED25519].vkey(),
        "from_size": size + 1,
        "to_size": size,
    }
    if ML_DSA_65 in kinds:
        # Not its vkey: a text of that length would be kept aside.
        digest = hashlib.sha256(kinds[ML_DSA_65].public_key).hexdigest()
        more["second"] = f"sha256:{digest}"
    return more


def check_announced(
    leaf: bytes, path: Sequence[bytes], *, size: int, root: bytes, new: Sequence[LogKey]
) -> None:
    """Return if the last leaf of a tree names the keys that follow.

    Args:
        leaf: The leaf's bytes.
        path: Its audit path.
        size: Number of leaves.
        root: The tree's root.
        new: The keys that follow.

    Raises:
        AuditLogError: It says something else, or is not the tree's last leaf.
    """
    try:
        event = parse_event(leaf)
    except FormatError as error:
        raise AuditLogError(f"log keys: the last leaf is no event: {error}") from error
    expected = announcement(new, size=size)
    if event["act"] != "trail.key" or event.get("more") != expected:
        raise AuditLogError(
            f"log keys: expected that leaf {size - 1} hands over to {expected['vkey']} from "
            f"{size + 1} leaves on, found {event['act']}",
            index=size - 1,
        )
    if not hmac.compare_digest(root_from_path(size - 1, size, leaf_hash(leaf), path), root):
        raise AuditLogError(f"log keys: leaf {size - 1} is not in the tree", index=size - 1)
