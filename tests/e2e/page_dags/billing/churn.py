"""Another team's DAG; like its neighbours it is never run."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False)
def billing_churn() -> None:
    task(task_id="train")(lambda: None)()


billing_churn()
