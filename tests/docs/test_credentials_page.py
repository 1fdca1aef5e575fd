"""What docs/credentials.md shows works as it stands there, on a real PostgreSQL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from airflow.sdk import DAG

PAGE = (Path(__file__).parents[2] / "docs" / "credentials.md").read_text(encoding="utf-8")
IMPORTS = """
from pathlib import Path
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import task
from airflow_secure_ml import secure
"""


def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def dag():
    made = {}
    with DAG("page", schedule=None) as dag:
        exec(IMPORTS + blocks()[0] + "\nextract()", made)
    return dag


def test_the_task_reads_with_the_leased_login_and_not_with_the_static_one(
    secure_ml, dag, postgres, warehouse
):
    warehouse("CREATE TABLE visits (age integer)")
    warehouse("INSERT INTO visits VALUES (40)")
    secure_ml.lease("database/creds/reader", username=postgres.admin, password=postgres.password)

    run = secure_ml.run(dag.get_task("extract"))

    assert run.error is None
    assert secure_ml.open("/data/features/2026-01-01.parquet")[:4] == b"PAR1"


def test_the_pages_own_test_passes(secure_ml, dag, warehouse):
    warehouse("CREATE TABLE visits (age integer)")
    # The login that the page leases, so that its connection opens.
    warehouse("CREATE ROLE u LOGIN PASSWORD 'p'")
    warehouse("GRANT SELECT ON visits TO u")
    made = {"dag": dag}

    try:
        exec(blocks()[1], made)
        made["test_the_features_come_from_the_warehouse"](secure_ml)
    finally:
        warehouse("DROP OWNED BY u")
        warehouse("DROP ROLE u")
