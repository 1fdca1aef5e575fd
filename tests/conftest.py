"""What every test shares: `--long`, parts that may be missing, a home that nobody keeps.

Tests with their own Airflow or browser run last and in one process, `long` ones with `--long`.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

HEAVY = ("airflow", "browser")
# Whoever asks for the fixture needs the server, marked or not.
MARKER_OF = {
    "vault_binary": "vault",
    "postgres": "postgres",
    "trail_server": "postgres",
    "ldap_server": "ldap",
    "s3_binary": "s3",
    "litewitness_binary": "tlog",
    "fsck_binary": "tlog",
    "sumdb_binary": "tlog",
    "softhsm": "softhsm",
    "spark": "spark",
}
SERVERS = Path(__file__).parent / "servers"
pytest_plugins = ["tests.servers.fixtures"] if SERVERS.exists() else []


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config):
    # Where a test imports Great Expectations by itself: `adapters.gx_checker.library` says why.
    main = sys.modules["__main__"]
    if not hasattr(main, "__file__"):
        main.__file__ = __file__
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
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))
        for fixture in set(getattr(item, "fixturenames", ())) & MARKER_OF.keys():
            item.add_marker(MARKER_OF[fixture])
    items.sort(key=lambda item: (is_heavy_file(item.path), is_heavy(item)))


def is_heavy(item):
    return any(item.get_closest_marker(name) for name in HEAVY)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    # Not xdist_group: pytest-xdist 3.8 passes over that mark under pytest 9.2.
    class OneWorkerForHeavyFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.partition("::")[0]
            return "heavy" if is_heavy_file(config.rootpath / path) else nodeid

    return OneWorkerForHeavyFiles(config, log)


@functools.cache
def is_heavy_file(path):
    text = path.read_text(encoding="utf-8")
    return any(f"pytest.mark.{name}" in text for name in HEAVY)


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


def _has_vault():
    from tests.servers import build

    return build.find(build.SERVERS["vault"]) is not None


def _has_s3():
    from tests.servers import build

    return build.find(build.SERVERS["s3"]) is not None


def _has_tlog():
    from tests.servers import build

    # The key of litewitness lies in an agent.
    has_agent = all(shutil.which(name) for name in ("ssh-agent", "ssh-add"))
    programs = ("litewitness", "fsck", "sumdb")
    return has_agent and all(build.find(build.SERVERS[name]) for name in programs)


def _has_softhsm():
    return shutil.which("softhsm2-util") is not None


def _has_java():
    return shutil.which("javac") is not None


def _has_postgres():
    from dags_examples.demo.postgres_server import find_postgres

    return find_postgres() is not None


def _has_slapd():
    return Path("/usr/sbin/slapd").exists()


PARTS = (
    ("vault", functools.cache(_has_vault), "vault or bao on PATH, or Go and then make servers"),
    ("s3", functools.cache(_has_s3), "versitygw on PATH, or Go and then make servers"),
    ("tlog", functools.cache(_has_tlog), "litewitness, fsck, sumdb, ssh-agent; make servers"),
    ("softhsm", _has_softhsm, "SoftHSM; apt-get install softhsm2"),
    ("spark", _has_java, "a Java compiler; apt-get install openjdk-17-jdk-headless"),
    ("postgres", _has_postgres, "PostgreSQL's server; apt-get install postgresql"),
    ("ldap", _has_slapd, "slapd; apt-get install slapd"),
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
