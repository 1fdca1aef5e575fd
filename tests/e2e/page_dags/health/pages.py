"""DAGs of the same ids and tasks as the page tests' trail tells of; they are never run."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

START = pendulum.datetime(2026, 1, 1, tz="UTC")
PIPELINES = {
    "secure_training": ("ingest", "features", "train", "score", "notify"),
    "refusals": (
        "tampered_data", "forged_signature", "key_not_allowed", "other_patient", "older_model",
        "plain_file", "failed_expectations", "killed",
    ),
}  # fmt: skip


def declare(dag_id: str, task_ids: tuple[str, ...]) -> None:
    @dag(dag_id=dag_id, schedule=None, start_date=START, catchup=False)
    def pipeline() -> None:
        before = None
        for task_id in task_ids:
            step = task(task_id=task_id)(lambda: None)()
            if before is not None and dag_id != "refusals":
                before >> step
            before = step

    pipeline()


for name, steps in PIPELINES.items():
    declare(name, steps)
