"""Integrity: what would be noticed, the checkpoint, the spool, and checking the whole log now."""

from __future__ import annotations

from fastapi import APIRouter, Response

from airflow_secure_ml.plugin.access import WholeLogDep
from airflow_secure_ml.plugin.rendering import page
from airflow_secure_ml.plugin.trail import TrailDep

router = APIRouter()


@router.get("/integrity")
def integrity(scope: WholeLogDep, trail: TrailDep, old: str = "") -> Response:
    """What the log proves, and against whom."""
    return page("integrity", "Integrity", whole=scope.whole)
