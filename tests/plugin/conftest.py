"""A small trail, made through the real spool and sequencer, for the pages' pure parts."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.settings import parse_settings


def _generator():
    """The generator beside this file; tests are no package."""
    spec = importlib.util.spec_from_file_location(
        "trail_generator", Path(__file__).parent / "generator.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """A folder with the audit and signer directories of three days."""
    folder = tmp_path_factory.mktemp("trail")
    (folder / "audit").mkdir()
    _generator().fill(folder / "audit", folder / "signer", days=3, end_ms=1_795_316_400_000)
    return folder


@pytest.fixture
def trail(told, tmp_path):
    """The same trail in a folder of the test's own, which it may change."""
    shutil.copytree(told, tmp_path / "own")
    return Trail(
        parse_settings(
            {
                "key_system": "local:///nowhere",
                "audit_dir": str(tmp_path / "own" / "audit"),
                "audit_signer_dir": str(tmp_path / "own" / "signer"),
            }
        )
    )
