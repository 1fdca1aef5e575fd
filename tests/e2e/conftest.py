"""What the end-to-end tests share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

# Chromium says this of every plugin page that Airflow frames.
KNOWN = "allow-scripts and allow-same-origin"


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


@pytest.fixture
def store(page_airflow):
    """What the pages read: the log of their server."""
    from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader

    return SqliteAuditReader(page_airflow.audit_dir / LOG_FILE)


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


@pytest.fixture(scope="module")
def chromium():
    """A headless browser."""
    pytest.importorskip("playwright.sync_api")
    with _beside("page_airflow").chromium() as browser:
        yield browser


@pytest.fixture
def visit(chromium, page_airflow):
    """Opens a page as a user; at the end, nothing may have been said on the console."""
    contexts, said = [], []

    def open_page(path, *, user="admin", scheme="light", size=(1280, 800), scripts=True):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme,
            java_script_enabled=scripts, accept_downloads=True,
        )  # fmt: skip
        contexts.append(context)
        context.add_cookies([page_airflow.cookie(user)])
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and said.append(m.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(page_airflow.url + path)
        if scripts and path.startswith("/secure-ml"):
            page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in said if KNOWN not in text] == []


@pytest.fixture(scope="session")
def own_airflow():
    """The module that runs a whole Airflow; tests may import it once they asked for this."""
    return _beside("own_airflow")
