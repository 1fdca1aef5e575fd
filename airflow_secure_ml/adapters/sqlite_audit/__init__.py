"""The audit log in one SQLite file: what its readers and its one writer see.

Everything that belongs to a sequenced log and nothing of the spool. Times, keys and what may be
appended are decided above.

Source: AUDIT_TRAIL, Sequencer (the schema).
"""

from __future__ import annotations

from airflow_secure_ml.adapters.sqlite_audit.reader import SqliteAuditReader
from airflow_secure_ml.adapters.sqlite_audit.writer import SqliteAuditWriter

LOG_FILE = "trail.db"

__all__ = ["LOG_FILE", "SqliteAuditReader", "SqliteAuditWriter"]
