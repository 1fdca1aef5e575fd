"""One running Airflow whose XCom is sealed, the large values in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def airflow(own_airflow, tmp_path_factory):
    """A running Airflow with the DAGs of this folder."""
    folder = tmp_path_factory.mktemp("xcom")
    settings = {
        "AIRFLOW__CORE__XCOM_BACKEND": (
            "airflow_secure_ml.xcom.object_storage.SealedObjectStorageXComBackend"
        ),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{folder}/objects",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "20000",
        "AIRFLOW__SECURE_ML__XCOM_READ_UNSEALED": "false",
    }
    with own_airflow.running(folder, Path(__file__).parent / "dags", settings) as running:
        running.objects = folder / "objects"
        yield running
