"""The DataChecker over Great Expectations. Nothing here imports it, or pandas, at the top."""

from __future__ import annotations

from airflow_secure_ml.adapters.gx_checker.checker import GxChecker
from airflow_secure_ml.adapters.gx_checker.splitter import TableSplitter

__all__ = ["GxChecker", "TableSplitter"]
