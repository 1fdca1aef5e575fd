"""What Airflow is told about this package."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from airflow_secure_ml.get_provider_info import get_provider_info
from airflow_secure_ml.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def options() -> dict[str, dict[str, str]]:
    return get_provider_info()["config"]["secure_ml"]["options"]  # type: ignore[index]


def test_airflow_accepts_the_provider_info():
    schema = json.loads(
        resources.files("airflow").joinpath("provider_info.schema.json").read_text()
    )

    jsonschema.validate(get_provider_info(), schema)


def test_every_option_declared_is_read_and_none_else():
    assert list(options()) == [field.name for field in dataclasses.fields(Settings)]


@pytest.mark.parametrize("name", options(), ids=str)
def test_every_option_is_explained(name):
    option = options()[name]

    assert len(option["description"]) > 20
    assert option["description"].endswith(".")
    assert option["version_added"] == "0.1.0"
    # Airflow fills defaults in with str.format, and stops every command where that fails.
    assert "{" not in option["default"].format(AIRFLOW_HOME="/home")


def test_every_command_and_hook_that_is_named_exists():
    for path in get_provider_info().get("cli", []):  # type: ignore[attr-defined]
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_it_imports_nothing_slow():
    program = (
        "import sys; before = set(sys.modules)\n"
        "from airflow_secure_ml.get_provider_info import get_provider_info\n"
        "get_provider_info(); print(*sorted(set(sys.modules) - before))"
    )

    found = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert found == ["__future__", "airflow_secure_ml", "airflow_secure_ml.get_provider_info"]
