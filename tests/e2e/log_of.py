"""An Airflow's audit log as its own readers see it: with what hidden values hide."""

from __future__ import annotations

from pathlib import Path

from airflow_secure_ml.audit_ports import AuditPlace
from airflow_secure_ml.core.audit.ports import AuditReader


def log_of(audit_dir: Path) -> AuditReader:
    """The log below `audit_dir`, its keys where they are by default."""
    return AuditPlace(audit_dir=audit_dir, subjects_dir=audit_dir / "subjects").reader()
