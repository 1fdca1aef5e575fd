"""`open_artifact` in a notebook or a service: a program of its own, without Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(sys.executable).parent
NOTEBOOK = """
import json, os, sys
from airflow_secure_ml import SecureMLError, open_artifact

found = {}
try:
    with open_artifact(sys.argv[1], **json.loads(sys.argv[2])) as path:
        found["text"], found["mode"] = path.read_text(), oct(path.stat().st_mode & 0o777)
        found["folder"] = str(path.parent.parent)
        if "fail" in sys.argv:
            raise ZeroDivisionError
except SecureMLError as error:
    found["refused"], found["error"] = error.why, type(error).__name__
except ZeroDivisionError:
    found["raised"] = True
found["left"] = os.path.exists(found.get("folder", "/nowhere"))
found["airflow"] = "airflow" in sys.modules
print(json.dumps(found))
"""


@pytest.fixture
def shell(tmp_path):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home")}

    def call(*words):
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    call(TOOLS / "secure-ml", "keys", "init")
    (tmp_path / "plain.csv").write_text("age\n54\n")
    call(TOOLS / "secure-ml", "seal", "plain.csv", "a.csv", "--key", "data")
    call(TOOLS / "secure-ml", "sign", "a.csv", "--key", "pipeline")
    return call


@pytest.fixture
def notebook(shell, tmp_path):
    def call(*more, **options):
        code = [sys.executable, "-c", NOTEBOOK, tmp_path / "a.csv", json.dumps(options), *more]
        return json.loads(shell(*code))

    return call


def test_a_notebook_reads_an_artifact_and_leaves_nothing(notebook):
    found = notebook()

    assert found == {
        "text": "age\n54\n",
        "mode": "0o600",
        "folder": found["folder"],
        "left": False,
        "airflow": False,
    }


def test_a_notebook_that_fails_leaves_nothing(notebook):
    found = notebook("fail")

    assert (found["raised"], found["left"]) == (True, False)


def test_an_altered_artifact_is_refused(notebook, tmp_path):
    sealed = bytearray((tmp_path / "a.csv").read_bytes())
    sealed[-1] ^= 1
    (tmp_path / "a.csv").write_bytes(sealed)

    found = notebook()

    assert "text" not in found
    assert found["error"] in ("CiphertextError", "ManifestMismatchError")


def test_another_signer_is_demanded(notebook, shell):
    shell(TOOLS / "secure-ml", "keys", "create", "release", "--for", "sign")

    found = notebook(signed_by="release")

    assert found["refused"] == "signer_not_accepted"


def test_another_context_is_demanded(notebook):
    found = notebook(context={"purpose": "care"})

    assert found["refused"] == "context_differs"


def test_what_a_notebook_did_is_in_the_trail(notebook, shell):
    notebook()

    shell(TOOLS / "secure-ml", "audit", "sequencer", "--once")
    shown = json.loads(shell(TOOLS / "secure-ml", "audit", "show", "--json", "--all"))
    events = shown["events"] if isinstance(shown, dict) else shown
    acts = [event.get("act") or event["event"]["act"] for event in events]
    assert {"task.secure", "object.verify", "object.open", "scratch.shred"} <= set(acts)
