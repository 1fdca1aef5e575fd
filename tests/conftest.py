"""What every test shares: `--long`, parts that may be missing, a home that nobody keeps.

Tests with their own Airflow or browser run last and in one process, `long` ones with `--long`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

HEAVY = ("airflow", "browser")
# Group of pytest-xdist: one worker takes all of it.
GROUP = "airflow"


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config):
    # Airflow writes its configuration when it is imported: never into the user's own home.
    if not hasattr(config, "workerinput"):
        home = tempfile.mkdtemp(prefix="airflow-home-")
        config.stash[HOME] = home
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


def pytest_unconfigure(config):
    home = config.stash.get(HOME, None)
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)


HOME = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_heavy(item):
            item.add_marker(pytest.mark.xdist_group(GROUP))
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))
    items.sort(key=is_heavy)


def is_heavy(item):
    return any(item.get_closest_marker(name) for name in HEAVY)


def pytest_runtest_setup(item):
    for name, is_there, remedy in PARTS:
        if item.get_closest_marker(name) and not is_there():
            text = f"MISSING for {name} tests: {remedy}"
            # Where nobody looks at skipped tests, they would never run.
            pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)


def _has_chromium():
    return shutil.which("chromium") is not None


def _has_airflow():
    return (Path(sys.executable).parent / "airflow").exists()


PARTS = (
    ("browser", _has_chromium, "chromium; apt-get install chromium"),
    ("airflow", _has_airflow, "the command airflow beside this Python; make setup"),
)


def pytest_terminal_summary(terminalreporter):
    missing = {
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and "MISSING" in report.longrepr[2]
    }
    for text in sorted(missing):
        terminalreporter.write_sep("!", text.removeprefix("Skipped: "), red=True, bold=True)
