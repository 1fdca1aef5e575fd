"""A key's rotation: nothing is sealed anew, nobody gets to read anything, and at the end it is
proved that the old version is needed nowhere.

The key is a name; the platform team's settings say that it lies in Vault. There the rotation asks
for `transit/rewrap` alone: Vault gives back other wrapped keys, and opens nothing for it.
Signatures stay valid, since they cover what is sealed and not who can open it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import dag, task

from airflow_secure_ml import secure
from airflow_secure_ml.operators import (
    FindSealedOperator,
    KeyUsageOperator,
    RewrapArtifactOperator,
    RotateKeyOperator,
)

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake")
KEY = "data"
PATIENTS = ["p125024", "p125025", "p125026"]


@dag(
    schedule="@quarterly",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["keys"],
)
def rotate_data_key():
    @secure(writes={"visits": f"{LAKE}/visits"})
    @task
    def write_visits(visits: Path) -> int:
        """A directory is a data set: one key opens it, and only that is rewrapped."""
        visits.mkdir()
        for day in range(1, 201):
            (visits / f"{day:03}.csv").write_text(f"zper,day\n125024,{day}\n")
        return 200

    @secure(writes={"note": f"{LAKE}/notes/{{{{ args.patient }}}}.txt"})
    @task
    def write_note(patient: str, note: Path) -> None:
        """A file alone has a slot of its own."""
        note.write_text(f"{patient}: no visit this quarter\n")

    @secure(reads={"visits": f"{LAKE}/visits"})
    @task
    def still_opens(visits: Path) -> int:
        """A reader like any other: the signature is demanded, the new version opens."""
        return sum(1 for _ in visits.iterdir())

    @task
    def tell(usage: dict) -> None:
        for version in usage["versions"]:
            print(f"{KEY}/{version['version']}: {version['state']}, {version['files']} in use")
        print(f"retired below version: {usage['retired_below']}")

    rotated = RotateKeyOperator(task_id="rotate", key=KEY)
    # Every place of the lake, whoever wrote it: what is left out here may not open later.
    found = FindSealedOperator(task_id="places", prefix=LAKE, key=KEY)
    rewrapped = RewrapArtifactOperator.partial(task_id="rewrap", key=KEY).expand(
        prefix=found.output
    )
    proven = KeyUsageOperator(
        task_id="nothing_old",
        key=KEY,
        prefixes=[LAKE],
        retire_unused=True,
        trigger_rule="none_failed",  # an empty list of places is no reason to prove nothing
    )

    [write_visits(), write_note.expand(patient=PATIENTS)] >> rotated >> found
    rewrapped >> proven >> still_opens()
    tell(proven.output)


rotate_data_key()
