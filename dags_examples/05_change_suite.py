"""A change of suite: everything in the lake is sealed anew, and at the end it is proved that
nothing old is left.

What files are written in is the platform team's `[secure_ml] crypto_policy`; no task says it. Set
`{"write": {"suites": ["cobblestone-256"]}}`, let this run until the last task is green, and then
take the old suite out of `read` as well: from then on an old file, a backup that somebody puts
back among them, is refused before any key is asked.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import dag, task

from airflow_secure_ml import secure
from airflow_secure_ml.operators import CryptoUsageOperator, ResealArtifactOperator

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake")


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["keys"],
)
def change_suite():
    @task
    def artifacts() -> list[str]:
        """Everything in the lake that has statements beside it: files and data sets."""
        return sorted(str(each.with_suffix("")) for each in Path(LAKE).glob("*.sig"))

    @secure(reads={"visits": f"{LAKE}/visits"})
    @task
    def still_opens(visits: Path) -> int:
        """A reader like any other: nothing in it knows of suites."""
        return sum(1 for _ in visits.iterdir())

    @task
    def tell(usage: dict) -> None:
        for suite, files in usage["suites"].items():
            print(f"{suite}: {files} files")
        print(f"old: {usage['old']} of {usage['sealed_files']} sealed objects")

    resealed = ResealArtifactOperator.partial(task_id="reseal").expand(artifact=artifacts())
    proven = CryptoUsageOperator(task_id="nothing_old", prefixes=[LAKE], refuse_old=True)

    resealed >> proven >> still_opens()
    tell(proven.output)


change_suite()
