"""Waits for a new version of a key, in the triggerer, and then seals with it."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_secure_ml import secure
from airflow_secure_ml.sensors import KeyRotatedSensor

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")

with DAG("waiting", schedule=None):

    @secure(writes={"table": f"{DATA}/table.csv"})
    @task
    def seal(table: Path) -> None:
        table.write_text("age\n54\n")

    KeyRotatedSensor(task_id="wait", key="data", poke_interval=5) >> seal()
