"""One running Airflow for every test of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def airflow(own_airflow, tmp_path_factory):
    """A running Airflow with the DAGs of this folder."""
    dags = Path(__file__).parent / "dags"
    with own_airflow.running(tmp_path_factory.mktemp("scheduler"), dags) as running:
        yield running
