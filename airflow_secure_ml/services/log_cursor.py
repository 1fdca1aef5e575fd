"""Whether a log is still the one that was read before, up to where it was read.

Source: AUDIT_TRAIL, What it proves.
"""

from __future__ import annotations

from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.siem import Cursor


def broken_cursor(reader: AuditReader, cursor: Cursor, size: int) -> str:
    """What is wrong between a cursor and its log; empty: nothing is.

    Args:
        reader: The log.
        cursor: How far it was read.
        size: Its number of leaves now.
    """
    origin = reader.origin()
    if cursor.origin != origin:
        return f"{cursor.origin} was read up to leaf {cursor.next}, not {origin}"
    if cursor.next > size:
        return f"{cursor.next} leaves were read, the log has {size}"
    if cursor.last is None:
        return ""
    if list(reader.leaf_hashes(cursor.next - 1, cursor.next)) != [cursor.last]:
        return f"leaf {cursor.next - 1} is not the one that was read"
    return ""
