"""Secures machine-learning pipelines in Apache Airflow.

Importing this package imports nothing else; each public name is loaded when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"
