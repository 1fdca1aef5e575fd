"""What Airflow is told about this package."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tomllib
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

    ours = [name for name in found if name.split(".")[0] not in sys.stdlib_module_names]
    assert ours == ["airflow_secure_ml", "airflow_secure_ml.get_provider_info"]


@pytest.fixture
def airflow(tmp_path):
    """Run an Airflow command with this package installed, as far as its provider goes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    point = project["entry-points"]["apache_airflow_provider"]["provider_info"]
    dist = tmp_path / "site" / "airflow_secure_ml-0.1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n"
    )
    (dist / "entry_points.txt").write_text(f"[apache_airflow_provider]\nprovider_info={point}\n")
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "PYTHONPATH": f"{dist.parent}{os.pathsep}{ROOT}",
        "PATH": os.environ["PATH"],
    }

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


@pytest.mark.airflow
def test_airflow_shows_the_provider(airflow):
    providers = json.loads(airflow("-m", "airflow", "providers", "list", "--output", "json"))

    (ours,) = (found for found in providers if found["package_name"] == "airflow-secure-ml")
    assert ours["version"] == "0.1.0"
    assert ours["description"].startswith("Secures machine-learning pipelines")


@pytest.mark.airflow
def test_airflow_documents_every_option_and_its_own_file_is_read(airflow, tmp_path):
    listed = airflow(
        "-m", "airflow", "config", "list", "--section", "secure_ml", "--include-descriptions"
    )

    for name, option in options().items():
        assert f"{name} = " in listed
        assert f"# {option['description']}" in listed
    # Airflow has written an airflow.cfg of its own with every option in it by now.
    assert "[secure_ml]" in (tmp_path / "airflow.cfg").read_text()
    program = "from airflow_secure_ml.settings import *; print(load_settings_without_airflow())"
    assert f"PosixPath('{tmp_path}/secure_ml/audit')" in airflow("-c", program)
