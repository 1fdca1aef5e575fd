"""Exports as people take them: whole files with progress, on record, and evidence that holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
from importlib import resources

import pytest

from airflow_secure_ml.core.audit.event_table import restored
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.asking import until

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
REFUSED = "/secure-ml/export?q=status:refused%20dag:refusals"


def export(page, form, tmp_path):
    """Take a file; returns its bytes."""
    page.check(f"input[value={form}]")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "file")
    return (tmp_path / "file").read_bytes()


def outcome_with(store, digest):
    query = EventQuery(acts=("trail.export",))

    def found():
        events = [leaf.event for leaf in store.page(query, limit=20)]
        return [event for event in events if event.get("more", {}).get("digest") == digest]

    return until(found)[0]


def refused(store):
    query = EventQuery(dag="refusals", results=("refused",))
    return store.page(query, limit=1000)[::-1]


def test_the_list_leads_to_the_export_of_what_it_shows(visit):
    page = visit("/secure-ml/events?q=status:refused")

    page.get_by_role("link", name="Export", exact=True).click()

    expect(page.locator("code.said").first).to_have_text("status:refused")
    expect(page.get_by_role("heading", name="events")).to_be_visible()


def test_lines_are_the_events_as_they_are_stored(visit, store, tmp_path):
    page = visit(REFUSED)

    data = export(page, "jsonl", tmp_path)

    assert data.splitlines() == [leaf.data for leaf in refused(store)]
    count = len(refused(store))
    expect(page.locator("[data-export-verdict]")).to_contain_text(f"{count} of {count} events")
    expect(page.locator("[data-export-verdict]")).to_have_class("verdict good")
    recorded = outcome_with(store, f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert recorded["result"] == "ok"
    assert recorded["more"]["events"] == count
    intent = store.find(recorded["of"]).event
    assert (intent["phase"], intent["more"]["query"]) == ("intent", "status:refused dag:refusals")


def test_a_table_can_be_turned_back_into_the_events(visit, store, tmp_path):
    page = visit(REFUSED)

    data = export(page, "csv", tmp_path).decode("utf-8-sig")

    rows = list(csv.DictReader(io.StringIO(data, newline="")))
    assert [restored(row["stored"]).encode() for row in rows] == [
        leaf.data for leaf in refused(store)
    ]
    assert {row["result"] for row in rows} == {"refused"}


@pytest.mark.parametrize("form", ["pack", "whole"])
def test_a_pack_is_checked_without_us(visit, page_airflow, store, tmp_path, form):
    data = export(visit(REFUSED), form, tmp_path)

    (tmp_path / "pack.zip").write_bytes(data)
    verifier = resources.files("airflow_secure_ml.verifier").joinpath("verify.py")
    keys = page_airflow.signer_dir / "log_keys"
    done = subprocess.run(
        [sys.executable, str(verifier), str(tmp_path / "pack.zip"), "--keys", str(keys)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome_with(store, f"sha256:{hashlib.sha256(data).hexdigest()}")["result"] == "ok"


def test_without_scripts_the_browser_takes_the_file(visit, store, tmp_path):
    data = export(visit(REFUSED, scripts=False), "jsonl", tmp_path)

    assert len(data.splitlines()) == len(refused(store))


def test_who_sees_some_dags_gets_their_events_and_no_pack(visit, store, tmp_path):
    page = visit("/secure-ml/export?q=show:everything", user="ines")

    data = export(page, "jsonl", tmp_path)

    dags = {json.loads(line)["run"]["dag"] for line in data.splitlines()}
    assert dags == {"billing_churn"}
    assert page.locator("input[value=pack], input[value=whole]").count() == 0


def test_a_filter_with_a_name_in_it_is_recorded_without_it(visit, store, tmp_path):
    data = export(visit("/secure-ml/export?q=by:maria.keller"), "jsonl", tmp_path)

    recorded = outcome_with(store, f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert recorded["more"]["query"] == "by:(a person)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, scheme):
    page = visit(REFUSED, scheme=scheme)

    violations = axe.Axe().run(page).response["violations"]

    assert [(found["impact"], found["id"]) for found in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
