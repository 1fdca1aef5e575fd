"""What the log says when one key hands over to the next, and whether a leaf says that.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (`log_keys`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    more: dict[str, Any] = {"from_size": size + 1, "to_size": size}
    for key in new:
        if key.algorithm == ED25519:
            more["vkey"] = key.vkey()
        if key.algorithm == ML_DSA_65:
            # Not its vkey: a text of that length would be kept aside.
            more["second"] = f"sha256:{hashlib.sha256(key.public_key).hexdigest()}"
    return more


@dataclass(slots=True)
class HandOvers:
    """What a log's leaves say of its keys, as they are read in order."""

    said: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def note(self, at: int, event: Mapping[str, Any]) -> None:
        """Take the leaf `at`."""
        if event["act"] == "trail.key":
            self.said[at] = event.get("more", {})

    def check(
        self, keys: Iterable[LogKey], *, origin: str, size: int, pruned_below: int = 0
    ) -> None:
        """Return if each key that follows another is named by the last leaf before its sizes.

        Args:
            keys: Who may sign, as the reader knows it.
            origin: The log.
            size: Its number of leaves.
            pruned_below: Leaves below it are there by their hashes alone, and say nothing.

        Raises:
            AuditLogError: A key that no leaf names, or a log that ends before one does.
        """
        new = [key for key in keys if key.name == origin and key.from_size]
        for key in sorted(new, key=lambda key: key.from_size):
            last = key.from_size - 1
            if size < last:
                raise AuditLogError(
                    f"audit log: {size} leaves, and by log_keys a key signs from "
                    f"{key.from_size} on, after {last}; it was cut or rolled back",
                    index=size,
                )
            said = self.said.get(last - 1, {})
            expected = announcement([key], size=last)
            is_named = all(said.get(name) == value for name, value in expected.items())
            if last > pruned_below and not is_named:
                raise AuditLogError(
                    f"audit log: leaf {last - 1} does not hand over to the key "
                    f"{key.key_id.hex()}, which by log_keys signs from {key.from_size} on",
                    index=last - 1,
                )


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
