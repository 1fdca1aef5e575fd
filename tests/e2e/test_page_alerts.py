"""Alerts as a reader sees and answers them: headless Chromium against a running Airflow."""

from __future__ import annotations

import re
import time
import urllib.parse

import pytest

from airflow_secure_ml.adapters.alert_rules import shipped_rules
from airflow_secure_ml.adapters.relay import AlertRecorder, SqliteBook
from airflow_secure_ml.adapters.sequencer import ensure_sequencer
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.alerting import AlertJob
from tests.e2e.asking import Asker, until

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
SIZES = [(1280, 800), (1920, 1080)]
SCHEMES = ["light", "dark"]
TITLE = "Data are not what was signed or sealed"
HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.exe"


@pytest.fixture(scope="module")
def alerted(page_airflow, tmp_path_factory):
    """The log with the alerts of its last day, one of a check, and a hostile one."""
    store = SqliteAuditReader(page_airflow.audit_dir / LOG_FILE)

    def ensure():
        ensure_sequencer(page_airflow.audit_dir, page_airflow.signer_dir)

    job = AlertJob(
        rules=lambda: [rule for rule in shipped_rules() if rule.name == "data_changed"],
        reader=store,
        book=SqliteBook(tmp_path_factory.mktemp("book") / "relay.db"),
        recorder=AlertRecorder(
            lambda: Spool(page_airflow.audit_dir, "relay"),
            [page_airflow.audit_dir / "spool"],
            ensure,
        ),
        now_ms=lambda: time.time_ns() // 1_000_000,
        on_pruned=pytest.fail,
    )
    while not store.page(EventQuery(acts=("alert.raise",)), limit=1):
        job.step()
    silent = {"about": "coverage.silent", "subject": "notify try 1", "tis": ["0c1d"]}
    hostile = {"about": HOSTILE, "subject": HOSTILE, "because": HOSTILE, "level": "low"}
    facts = (
        Fact(act="alert.raise", phase="seen", result="ok", more=silent),
        Fact(act="alert.raise", phase="seen", result="ok", more=hostile),
        Fact(
            act="alert.raise", phase="seen", result="ok", run=RunRef(dag="billing_churn", run=""),
            more={"about": "spool", "subject": "of billing"},
        ),
    )  # fmt: skip
    spool = Spool(page_airflow.audit_dir, "scheduler")
    names = [spool.record(fact) for fact in facts]
    spool.settle()
    spool.close()
    ensure()
    until(lambda: all(store.find(name) for name in names))
    return page_airflow


@pytest.fixture
def look(alerted, visit):
    return lambda path="alerts", **options: visit(f"/secure-ml/{path}", **options)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("is_open", [False, True], ids=["list", "drawer"])
def test_the_page_fits_and_axe_finds_nothing(look, scheme, size, is_open):
    page = look(scheme=scheme, size=size)
    if is_open:
        page.get_by_role("link", name=TITLE).click()
        page.wait_for_selector(".answer")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_rules_are_told_and_axe_finds_nothing(look):
    page = look("rules")

    expect(page.locator("table.rules tbody tr")).to_have_count(len(shipped_rules()) - 4)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_gravest_comes_first_with_its_evidence(look):
    page = look()

    expect(page.locator("table.alerts tbody tr").first).to_contain_text("high")
    page.get_by_role("link", name=TITLE).click()
    drawer = page.locator("#drawer")
    expect(drawer).to_contain_text("file:///srv/models/visits-07.skops")
    drawer.locator(".evidence a").first.click()
    expect(page.locator("#drawer h2")).to_contain_text("refused to open model")


def test_an_alert_is_acknowledged_with_a_reason_and_then_closed(look):
    page = look()
    page.get_by_role("link", name=TITLE).click()
    page.get_by_label("Why").fill("The model was rebuilt by hand.")
    page.get_by_role("button", name="Acknowledge").click()

    expect(page.locator(".said-list")).to_contain_text("The model was rebuilt by hand.")
    expect(page.locator("#drawer .marks")).to_contain_text("acknowledged")
    page.get_by_label("Why").fill("The reference was renewed.")
    page.get_by_role("button", name="Close").click()
    page.wait_for_url(re.compile("status=open"))
    expect(page.get_by_role("link", name=TITLE)).to_have_count(0)
    page.get_by_role("link", name="closed").click()
    page.get_by_role("link", name=TITLE).click()
    expect(page.locator(".said-list li")).to_have_count(2)
    expect(page.locator(".answer")).to_have_count(0)


def test_what_a_task_wrote_is_shown_and_never_run(look):
    page = look("alerts?level=low")
    row = page.locator("table.alerts tbody tr", has_text="<img src=x")

    expect(row.first).to_contain_text("\\u202egpj.exe")
    assert page.locator("table.alerts img").count() == 0


def test_it_reads_and_answers_without_scripts(look):
    page = look(scripts=False)
    page.get_by_role("link", name="Airflow ran tasks that the trail does not have").click()
    page.get_by_label("Why").fill("It is known.")
    page.get_by_role("button", name="Acknowledge").click()

    expect(page.locator(".said-list")).to_contain_text("It is known.")


def test_the_keys_go_through_the_list(look):
    page = look()
    page.keyboard.press("j")
    page.keyboard.press("Enter")

    page.wait_for_selector("#drawer h2")
    page.keyboard.press("Escape")
    expect(page.locator("#drawer h2")).to_have_count(0)


def test_who_may_read_one_team_sees_its_alerts_alone(look):
    page = look(user="bill")

    expect(page.locator("table.alerts tbody tr")).to_have_count(1)
    expect(page.locator("table.alerts")).to_contain_text("of billing")
    expect(page.locator(".state")).to_contain_text("There may be others")


def name_of(airflow, text):
    rows = Asker(airflow, "admin").ask("alerts?status=open").text.split("<tr data-event=")
    return next(row for row in rows if text in row).split('"')[1]


def test_an_answer_needs_a_right_a_token_a_reason_and_our_own_page(alerted):
    name = name_of(alerted, "of billing")
    admin, viewer = Asker(alerted, "admin"), Asker(alerted, "vera")
    token = admin.form_token("alerts?" + urllib.parse.urlencode({"alert": name}))
    form = {"name": name, "token": token, "what": "close", "note": "over"}

    assert viewer.ask("alerts", form)[0] == 403
    assert 'class="answer"' not in viewer.ask(f"alerts?alert={urllib.parse.quote(name)}")[1]
    assert admin.ask("alerts", {**form, "token": "1.x"})[0] == 403
    assert admin.ask("alerts", form, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert admin.ask("alerts", {**form, "note": "  "})[0] == 422
    assert admin.ask("alerts", {**form, "note": "x" * 501})[0] == 422
    assert admin.ask("alerts", {**form, "what": "open"})[0] == 422
    assert admin.ask("alerts", {**form, "name": "x:0"})[0] == 404
    assert name_of(alerted, "of billing") == name


@pytest.mark.parametrize(
    "path", ["alerts?status=all", "alerts?level=worst", "alerts?alert=x:0", "alerts?alert=%00"]
)
def test_what_is_not_there_is_said(alerted, path):
    assert Asker(alerted, "admin").ask(path)[0] == 404


def test_anothers_alert_is_not_there(alerted):
    store = SqliteAuditReader(alerted.audit_dir / LOG_FILE)
    query = EventQuery(acts=("alert.raise",), dag="secure_training")
    (leaf,) = store.page(query, limit=2)
    path = f"alerts?alert={leaf.event['emitter']}%3A{leaf.event['seq']}"

    assert Asker(alerted, "admin").ask(path)[0] == 200
    assert Asker(alerted, "bill").ask(path)[0] == 404
