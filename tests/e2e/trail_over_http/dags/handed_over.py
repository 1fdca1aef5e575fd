"""One secured task, whose events an API server takes."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_secure_ml import secure

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")

with DAG("handed_over", schedule=None, catchup=False):

    @secure(writes={"table": f"{DATA}/table.csv"})
    @task
    def make(table: Path) -> None:
        table.write_text("age\n42\n")

    make()
