"""The audit log in PostgreSQL: what its readers and its one writer see.

The same rows as in SQLite, for who wants the log on another machine than the spool, with logins
that can only add, or only read. psycopg comes with the extra `postgres` and is imported late.

Source: AUDIT_TRAIL, Sequencer (the schema).
"""

from __future__ import annotations

from airflow_secure_ml.adapters.postgres_audit.address import StoreAddress, parse_address
from airflow_secure_ml.adapters.postgres_audit.connecting import Login
from airflow_secure_ml.adapters.postgres_audit.reader import PostgresAuditReader
from airflow_secure_ml.adapters.postgres_audit.writer import PostgresAuditWriter

__all__ = [
    "Login",
    "PostgresAuditReader",
    "PostgresAuditWriter",
    "StoreAddress",
    "parse_address",
]
