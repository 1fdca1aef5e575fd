"""One running Airflow for the tests of this folder, with DAGs that are made to fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def faults(tmp_path_factory):
    """A running Airflow with the DAGs of this folder and a temporary folder of its own."""
    path = HERE.parent / "scheduler" / "own_airflow.py"
    spec = importlib.util.spec_from_file_location("airflow_for_faults", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.DAGS = HERE / "dags"
    folder = tmp_path_factory.mktemp("faults")
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        with module.running(folder) as running:
            running.until = module.until
            yield running
