"""One running Airflow for every test of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _beside(name):
    """A module of this folder; tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="package")
def airflow(tmp_path_factory):
    """A running Airflow with the DAGs of this folder."""
    with _beside("own_airflow").running(tmp_path_factory.mktemp("scheduler")) as running:
        yield running
