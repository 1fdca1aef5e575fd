"""Addresses of pages about what events name."""

from __future__ import annotations

from airflow_secure_ml.plugin.filter_words import filter_of
from airflow_secure_ml.plugin.rendering import href


def events_href(*pairs: tuple[str, str]) -> str:
    """The list of events, filtered by (field, value); empty values are left out."""
    return href("events", q=filter_of(*(pair for pair in pairs if pair[1])))


def run_href(dag: str, run: str) -> str:
    """The page of a DAG run; empty: it is not told which."""
    return href("run", dag_id=dag, run_id=run) if dag and run else ""
