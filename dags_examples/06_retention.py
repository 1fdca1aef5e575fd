"""Retention: what is past its declared life is found every night, and shredded.

How long data are kept is said in the policy file (`keep_days`) or by whoever writes them
(`keep_until`, as here). A data set's key is destroyed, whatever the data set's size; a signed
certificate says what, when and why, and every read is refused from then on.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import dag, task

from airflow_secure_ml import Writes, secure
from airflow_secure_ml.operators import FindExpiredOperator, ShredDataSetOperator

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake")
# Past its life at once: for a look at what happens.
KEEP_UNTIL = os.environ.get("SECURE_ML_DEMO_KEEP_UNTIL", "2099-12-31")


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["retention"],
)
def shred_what_is_over():
    @secure(writes={"trial": Writes(f"{LAKE}/trial", context={"keep_until": KEEP_UNTIL})})
    @task
    def write_trial(trial: Path) -> None:
        """A directory, so that it has a key of its own."""
        trial.mkdir()
        (trial / "answers.csv").write_text("zper,answer\n125024,yes\n")

    expired = FindExpiredOperator(task_id="expired", prefix=LAKE)
    ShredDataSetOperator.partial(task_id="shred", reason="retention").expand(dataset=expired.output)

    write_trial() >> expired


shred_what_is_over()
