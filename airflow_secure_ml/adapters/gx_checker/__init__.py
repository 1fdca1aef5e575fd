"""The DataChecker over Great Expectations. Nothing here imports it, or pandas, at the top."""

from __future__ import annotations

from airflow_secure_ml.adapters.gx_checker.checker import GxChecker

__all__ = ["GxChecker"]
