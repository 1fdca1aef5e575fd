"""What the pages' examples run on."""

from __future__ import annotations

import pytest


@pytest.fixture
def warehouse(postgres, monkeypatch):
    """Runs statements in a database of its own, where the connection `warehouse` leads to.

    Nobody can log in with what the connection itself says.
    """
    postgres.query("CREATE DATABASE pages")
    where = f"{postgres.host}:{postgres.port}/pages"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgres://nobody:wrong@{where}")
    yield lambda statement: postgres.query(statement, database="pages")
    postgres.query("DROP DATABASE pages WITH (FORCE)")
