"""An auditor who has only the pages answers ten questions.

Each test begins on the first page and goes on by what is written there. What the answers are is
said in tests/plugin/questions.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.plugin import questions
from tests.plugin.generator import TRAINING, run_id

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
LAST_RUN = run_id(questions.DAYS - 1)


@pytest.fixture
def page_airflow(asked_airflow):
    """The browser opens the server whose trail has the answers."""
    return asked_airflow


@pytest.fixture
def begin(visit):
    """The first page, as an auditor opens it."""
    return lambda: visit("/secure-ml/events", user="anna")


def go(page, name):
    """Follow the navigation."""
    page.get_by_role("navigation", name="Security audit").get_by_role("link", name=name).click()
    page.wait_for_selector("html[data-ready]")


def search(page, words):
    page.locator("#q").fill(words)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\?q="))
    page.wait_for_selector("html[data-ready]")


def day(number):
    """The date of a day of the story, as a date field takes it."""
    back = timedelta(days=questions.DAYS - 1 - number, seconds=90)
    return (datetime.now(UTC) - back).strftime("%Y-%m-%d")


def test_1_who_opened_the_data_set_and_were_they_allowed_to(begin):
    page = begin()
    go(page, "Objects")
    search(page, "features-01.csv")
    page.get_by_role("link", name="features-01.csv").first.click()

    opened = page.locator("#opened")
    rows = opened.locator("tbody tr")

    expect(rows.filter(has_text="secure_training.train").filter(has_text="opened")).to_have_count(1)
    expect(rows.filter(has_text="secure_training.train").last).to_contain_text("health")
    refused = rows.filter(has_text=f"{questions.EXPORT}.export")
    expect(refused.first).to_contain_text("refused to open")
    opened.get_by_label("From").fill(day(questions.ASKED_DAY + 1))
    opened.get_by_label("to", exact=True).fill(day(questions.DAYS))
    opened.get_by_role("button", name="Show").click()
    expect(page.locator("#opened tbody tr").filter(has_text=questions.EXPORT)).not_to_have_count(0)


def test_2_which_runs_used_an_old_version_of_a_key(begin):
    page = begin()
    go(page, "Keys")
    page.get_by_role("link", name=questions.OLD_KEY, exact=True).click()
    page.locator("#versions").get_by_role("link", name=questions.OLD_VERSION, exact=True).click()

    runs = page.locator("#runs")

    expect(runs).to_contain_text("2 runs; there are no others in the log")
    for number in questions.RESTORE_DAYS:
        expect(runs).to_contain_text(run_id(number))
    expect(runs).to_contain_text(questions.RESTORE)


def test_3_was_everything_of_a_run_recorded_and_what_is_missing(begin):
    page = begin()
    search(page, f"dag:{TRAINING} run:{LAST_RUN} act:alert.raise")
    page.locator("tr[data-event] a.open").first.click()
    expect(page.locator("#drawer")).to_contain_text("silent, its worker records nothing")
    page.goto(
        page.url.partition("/secure-ml")[0] + f"/secure-ml/run?dag_id={TRAINING}&run_id={LAST_RUN}"
    )

    expect(page.get_by_text("4 of 5 task tries recorded")).to_be_visible()
    expect(page.get_by_text("the trail has nothing").first).to_be_visible()
    expect(page.get_by_text("1 silent").first).to_be_visible()


def test_4_which_credentials_were_not_revoked_and_is_one_alive(begin):
    page = begin()
    go(page, "Keys")
    page.get_by_role("link", name="Leased credentials").click()

    expect(page.locator(".verdict")).to_contain_text(
        "1 credential was not revoked and may still be alive"
    )
    rows = page.locator("section[aria-label=Leases] tbody tr")
    expect(rows.first).to_contain_text(questions.ALIVE)
    expect(rows.filter(has_text=questions.RAN_OUT)).to_have_count(1)
    expect(rows.filter(has_text=questions.REVOKED)).to_have_count(0)


def test_5_which_validations_failed_and_what_happened_next(begin):
    page = begin()
    search(page, "act:object.validate status:refused after:30d")
    rows = page.locator("tr[data-event]")

    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("2 of 18 checks failed")
    rows.first.locator("a.open").click()
    after = page.locator("#drawer .neighbours")
    expect(after).to_contain_text("refused")
    expect(after).to_contain_text("task ended: failed")


def test_6_has_anything_changed_since_the_checkpoint_of_the_last_visit(begin, asked_airflow):
    from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader

    store = SqliteAuditReader(asked_airflow.audit_dir / LOG_FILE)
    kept = store.checkpoint(at_most=asked_airflow.size - 1)
    page = begin()
    go(page, "Integrity")
    page.locator("textarea").first.fill(kept)
    page.get_by_role("button", name="Compare").click()

    expect(page.get_by_text("Same log, grown by")).to_be_visible()


@pytest.mark.parametrize(
    ("words", "person", "said"),
    [
        ("act:trail.view before:12h", questions.CHANGED, "cli audit hold add"),
        ("act:trail.export before:12h", questions.TOOK, "act:key"),
        ("act:trail.view before:12h", questions.LOOKED, "dag:secure_training"),
    ],
    ids=["changed", "took away", "looked"],
)
def test_7_who_did_something_with_the_audit_itself(begin, words, person, said):
    page = begin()
    search(page, words)
    rows = page.locator("tr[data-event] a.open")
    rows.nth(1 if person == questions.LOOKED else 0).click()
    drawer = page.locator("#drawer")
    expect(drawer.locator(".stored")).to_contain_text(said)
    expect(drawer).not_to_contain_text(person)

    page.get_by_role("button", name="Show who").click()

    expect(page.get_by_text(person)).to_be_visible()
    expect(page.get_by_text("that you saw this is recorded")).to_be_visible()


def test_8_what_was_refused_this_week_and_for_what_reason(begin):
    page = begin()
    search(page, "status:refused after:7d act:object.open")
    rows = page.locator("tr[data-event]")

    for reason in ("digest differs", "key not allowed", "not sealed", "a rule denies"):
        expect(rows.filter(has_text=re.compile(reason.replace(" ", ".*")))).not_to_have_count(0)


def test_9_which_models_come_from_a_data_set_and_through_which_runs(begin):
    page = begin()
    go(page, "Objects")
    search(page, "raw-01.csv")
    page.get_by_role("link", name="raw-01.csv").first.click()
    page.get_by_role("link", name="The whole lineage").click()

    ends = page.locator("#ends")

    expect(ends).to_contain_text("visits-01.skops")
    expect(ends).to_contain_text(f"{TRAINING} › {run_id(1)}")
    expect(ends).to_contain_text("features → train")


def test_10_a_file_with_all_of_it_that_is_checked_without_us(begin, asked_airflow, tmp_path):
    page = begin()
    page.get_by_role("link", name="Export", exact=True).click()
    page.get_by_text("Evidence pack of the whole log").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    pack = tmp_path / "evidence.zip"
    download.value.save_as(pack)
    with zipfile.ZipFile(pack) as zipped:
        verifier = next(name for name in zipped.namelist() if name.endswith("verify.py"))
        (tmp_path / "verify.py").write_bytes(zipped.read(verifier))

    done = subprocess.run(
        [sys.executable, "-I", "verify.py", "evidence.zip",
         "--keys", str(asked_airflow.signer_dir / "log_keys")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
