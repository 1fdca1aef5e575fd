"""This process's durable part of the audit trail, in files of `<audit_dir>/spool`."""

from __future__ import annotations

from airflow_secure_ml.adapters.spool.emitting import EmitterSink
from airflow_secure_ml.adapters.spool.sink import Spool, SpoolLines

__all__ = ["EmitterSink", "Spool", "SpoolLines"]
