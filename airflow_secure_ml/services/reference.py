"""What a task passes on in place of data: the Reference, in the one shape that it has.

Source: API, Reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_secure_ml.core.manifest import Manifest


def reference(
    *,
    name: str,
    uri: str,
    manifest: Manifest,
    size_bytes: int,
    signed_by: Sequence[str],
    event: str,
    version: str = "",
    rows: int | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """A Reference to an artifact that was written, verified or vouched for.

    Args:
        name: The declared name.
        uri: The canonical address.
        manifest: What it consists of.
        size_bytes: Length of the plaintext, or of the payload where nobody opened it.
        signed_by: Names of the keys that signed it.
        event: Name of the event that says so.
        version: The store's name for it; empty where it has none.
        rows: Of a table that was counted.
        key: The key version that opens it; None: plain, or not known here.
    """
    return {
        "secure_ml": 1,
        "name": name,
        "uri": uri,
        "version": version,
        "digest": manifest.digest,
        "bytes": size_bytes,
        "rows": rows,
        "key": key,
        "signed_by": list(signed_by),
        "event": event,
    }
