"""An address or a template that cannot be rendered is the author's mistake: never retried."""

from __future__ import annotations

from pathlib import Path

import pendulum
import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_secure_ml import secure
from airflow_secure_ml.errors import ConfigurationError


@pytest.fixture
def reader():
    with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:

        @secure(reads={"table": "/data/{{ args.region }}.csv"})
        @task
        def read(country: str, table: Path) -> int:
            return table.stat().st_size

        read("eu")
    return dag.get_task("read")


def test_an_argument_that_is_not_there_is_not_retried(secure_ml, reader):
    run = secure_ml.run(reader)

    assert isinstance(run.error, AirflowFailException)
    assert isinstance(run.error, ConfigurationError)
    assert "the call has no argument 'region', only country" in str(run.error)
    assert not run.body_ran
