"""What the end-to-end tests share."""

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


@pytest.fixture(scope="session")
def page_airflow(tmp_path_factory):
    """One running API server with the pages, for every browser test of the session."""
    with _beside("page_airflow").running(tmp_path_factory.mktemp("pages")) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def asked_airflow(tmp_path_factory):
    """The same with users of FAB, and a trail with answers to the ten questions, and attacks."""
    from tests.plugin import hostile, questions

    def also(story, day):
        questions.tell(story, day)
        hostile.tell(story, day)

    folder = tmp_path_factory.mktemp("asked")
    started = _beside("page_airflow").running(folder, days=questions.DAYS, also=also, has_fab=True)
    with started as airflow:
        yield airflow


@pytest.fixture(scope="session")
def own_airflow():
    """The module that runs a whole Airflow; tests may import it once they asked for this."""
    return _beside("own_airflow")
