"""What README shows works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = Path(sys.executable).parent
VISITS = b"age,visits\n54,3\n41,0\n"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str = README) -> list[str]:
    lines = "".join(blocks("console", text)).splitlines()
    return [line[2:].split("#")[0].strip() for line in lines if line.startswith("$ ")]


def test_its_commands_are_these():
    assert commands() == [
        "make demo",
        "make test",
        "pip install airflow-secure-ml",
        "airflow secure-ml keys init",
    ]


def test_the_make_targets_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_is_installed_is_this_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert f"pip install {project['name']}" in commands()


def test_keys_init_makes_what_it_says(tmp_path):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    run = {"env": environment, "capture_output": True, "text": True, "check": True}

    subprocess.run([TOOLS / "secure-ml", "keys", "init"], **run)

    keyring = tmp_path / "secure_ml" / "keyring.json"
    assert keyring.stat().st_mode & 0o777 == 0o600
    listed = subprocess.run([TOOLS / "secure-ml", "keys", "list"], **run).stdout.split()
    assert {"data", "wrap", "pipeline", "sign"} <= set(listed)


@pytest.fixture
def dag(monkeypatch, tmp_path):
    """README's pieces of a DAG, in a file as an author would have it."""
    first, *others = blocks("python")
    text = (
        "from __future__ import annotations\n"
        "import pendulum\n"
        "from pathlib import Path\n"
        "from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator\n"
        "from airflow.providers.standard.operators.bash import BashOperator\n"
        "from airflow.sdk import DAG, task\n"
        "from airflow_secure_ml import Reads, secure\n"
        "with DAG('readme', schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:\n"
        + "".join(f"    {line}\n" for line in first.splitlines())
        + "    train()\n"
        + "".join(f"    {line}\n" for other in others for line in other.splitlines())
    )
    path = tmp_path / "readme_dag.py"
    path.write_text(text)
    (tmp_path / "visits.json").write_text(
        '{"name": "visits", "expectations": [{"type": "expect_column_values_to_be_between",'
        ' "kwargs": {"column": "age", "min_value": 0, "max_value": 110}}]}'
    )
    names = {"__name__": "readme_dag", "__file__": str(path)}
    exec(compile(text, str(path), "exec"), names)
    import pandas as pd
    import skops.io

    names |= {"pd": pd, "skops": skops, "fit": lambda frame: {"rows": len(frame)}}
    names["dag"].fileloc = str(path)
    return names["dag"]


def test_the_first_secured_task_seals_a_model(secure_ml, dag):
    secure_ml.put("/data/visits.csv", VISITS, sealed=False)

    run = secure_ml.run(dag.get_task("train"), ds="2026-01-01")

    assert run.error is None
    assert run.writes["model"]["signed_by"] == ["pipeline"]
    assert run.writes["model"]["key"].startswith("data/")


def test_the_first_secured_task_refuses_an_impossible_age(secure_ml, dag):
    secure_ml.put("/data/visits.csv", b"age,visits\n-7,3\n", sealed=False)

    run = secure_ml.run(dag.get_task("train"), ds="2026-01-01")

    assert run.refused
    assert not run.body_ran
    assert secure_ml.events[-1].why == "expectation_failed"


def test_the_operator_gets_these_very_bytes(secure_ml, dag):
    secure_ml.put("/data/models/2026-01-01.skops", b"four")

    run = secure_ml.run(dag.get_task("size"), ds="2026-01-01")

    assert run.returned.split()[0] == "4"


def test_the_query_is_asked_with_the_leased_login(secure_ml, dag, postgres, warehouse):
    warehouse("CREATE TABLE visits (day date)")
    warehouse("INSERT INTO visits VALUES ('2026-01-01')")
    secure_ml.lease("database/creds/reader", username=postgres.admin, password=postgres.password)

    run = secure_ml.run(dag.get_task("fresh"), ds="2026-01-01")

    assert run.error is None
    assert "2026" in str(run.returned)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_is_understood(page):
    shown = [c.removeprefix("airflow ") for c in commands(page.read_text(encoding="utf-8"))]

    for command in shown:
        # A pipe of several programs is run as it stands in test_commands_page.
        if not command.startswith("secure-ml ") or "|" in command:
            continue
        words = command.split()[1:]
        done = subprocess.run(
            [TOOLS / "secure-ml", *words, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, command
