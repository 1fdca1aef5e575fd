"""A secured task that ends well, and one that is killed in its body."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_secure_ml import secure

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")

with DAG("collected", schedule=None, catchup=False):

    @secure(writes={"table": f"{DATA}/table.csv"})
    @task
    def make(table: Path) -> None:
        table.write_text("age\n42\n")

    @secure(writes={"table": f"{DATA}/other.csv"})
    @task
    def killed(table: Path) -> None:
        table.write_text("age\n")
        os.kill(os.getpid(), signal.SIGKILL)

    make()
    killed()
