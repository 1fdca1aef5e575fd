"""One running Airflow for the tests of this folder, with DAGs that are made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

# Soon known to be dead, where nobody heartbeats any more; and coverage is checked meanwhile.
SETTINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SECURE_ML__RECONCILE_EVERY_S": "20",
}


@pytest.fixture(scope="package")
def faults(own_airflow, tmp_path_factory):
    """A running Airflow with the DAGs of this folder and a temporary folder of its own."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        with own_airflow.running(folder, Path(__file__).parent / "dags", SETTINGS) as running:
            running.until = own_airflow.until
            yield running
