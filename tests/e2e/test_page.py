"""The pages as a reader sees them: headless Chromium against a running Airflow."""

from __future__ import annotations

import sqlite3

import pytest

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
RUN = "/dags/secure_training/runs/scheduled__day-07/plugin/security-audit-run"
SIZES = [(1280, 800), (1920, 1080)]
SCHEMES = ["light", "dark"]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "path",
    ["/events", "/integrity", "/run?dag_id=secure_training&run_id=scheduled__day-07"],
    ids=["events", "integrity", "run"],
)
def test_a_page_fits_its_window_and_stays_silent(visit, path, scheme, size):
    page = visit("/secure-ml" + path, scheme=scheme, size=size)

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 29, 45)"}[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "path",
    [
        # Not the newest of all: that is this visit's own, and no checkpoint covers it yet.
        "/events?q=dag:secure_training",
        "/integrity",
        "/run?dag_id=secure_training&run_id=scheduled__day-07",
    ],
    ids=["events", "integrity", "run"],
)
def test_axe_finds_nothing(visit, path, scheme):
    page = visit("/secure-ml" + path, scheme=scheme)
    if path.startswith("/events"):
        page.locator("tr[data-event]").first.click()
        page.locator("#proof").wait_for()

    violations = axe.Axe().run(page).response["violations"]

    assert [(found["impact"], found["id"]) for found in violations] == []


def test_airflow_shows_the_page_in_its_navigation(visit):
    page = visit("/")

    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Security audit").click()
    frame = page.frame_locator("iframe")

    expect(frame.get_by_role("heading", name="Security audit")).to_be_visible()
    expect(frame.locator("tr[data-event]").first).to_be_visible()


def test_the_run_s_tab_follows_airflow_s_dark_mode(visit):
    page = visit(RUN, scheme="dark")
    frame = page.frame_locator("iframe")

    expect(frame.get_by_text("4 of 5 task tries recorded")).to_be_visible()
    expect(frame.locator(".said.bad")).to_have_text("refused to open model: digest differs")
    expect(frame.get_by_text("Airflow ran it (success); the trail has nothing")).to_be_visible()
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_navigation_shows_only_what_the_reader_may_open(visit):
    page = visit("/secure-ml/events", user="bill")

    assert page.locator(".top nav a").all_inner_texts()[:4] == [
        "Events",
        "Objects",
        "Keys",
        "Principals",
    ]


def test_a_click_on_a_value_filters_and_the_address_says_so(visit):
    page = visit("/secure-ml/events")

    page.locator(".facets").get_by_role("link", name="refused").click()

    expect(page.locator("#q")).to_have_value("status:refused")
    assert "q=status%3Arefused" in page.url
    expect(page.locator("tr[data-event]").first).to_contain_text("refused")


def test_a_filter_that_is_not_understood_says_why(visit):
    page = visit("/secure-ml/events?q=colour:red")

    expect(page.get_by_role("alert")).to_contain_text('"colour:" is not a field')
    assert page.locator("tr[data-event]").count() == 0


def test_the_keyboard_is_enough(visit):
    page = visit("/secure-ml/events")

    page.keyboard.press("/")
    page.keyboard.type("act:object.open")
    page.keyboard.press("Enter")
    page.wait_for_url("**act%3Aobject.open**")
    page.wait_for_selector("html[data-ready]")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("#drawer h2")).to_be_visible()
    assert "event=" in page.url
    page.keyboard.press("Escape")
    expect(page.locator("#drawer h2")).to_have_count(0)
    assert "event=" not in page.url
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_back_closes_the_drawer(visit):
    page = visit("/secure-ml/events")
    page.locator("tr[data-event]").first.click()
    expect(page.locator("#drawer h2")).to_be_visible()

    page.go_back()

    expect(page.locator("#drawer h2")).to_have_count(0)


def test_a_proof_is_checked_in_the_browser(visit):
    page = visit("/secure-ml/events?q=dag:secure_training")
    page.locator("tr[data-event]").first.click()

    page.get_by_role("button", name="Check it here").click()

    expect(page.locator("[data-verdict]")).to_contain_text("Valid")


@pytest.mark.parametrize(
    ("name", "value"),
    [("leaf", "e30="), ("index", "3"), ("path", "00" * 32)],
    ids=["other bytes", "other place", "other path"],
)
def test_a_wrong_proof_is_not_valid(visit, name, value):
    page = visit("/secure-ml/events?q=dag:secure_training")
    page.locator("tr[data-event]").first.click()
    page.locator("#proof").wait_for()
    page.evaluate(f"document.getElementById('proof').dataset.{name} = '{value}'")

    page.get_by_role("button", name="Check it here").click()

    expect(page.locator("[data-verdict]")).to_contain_text("Not valid")


def test_without_a_secure_context_the_check_says_what_to_do_instead(visit):
    page = visit("/secure-ml/events?q=dag:secure_training")
    page.locator("tr[data-event]").first.click()
    page.locator("#proof").wait_for()
    page.evaluate("Object.defineProperty(crypto, 'subtle', {value: undefined})")

    page.get_by_role("button", name="Check it here").click()

    expect(page.locator("[data-verdict]")).to_contain_text("Download the proof")


def test_a_proof_is_downloaded(visit):
    page = visit("/secure-ml/events?q=dag:secure_training")
    page.locator("tr[data-event]").first.click()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download proof").click()

    assert download.value.suggested_filename.startswith("proof-")


def test_everything_can_be_read_without_scripts(visit):
    page = visit("/secure-ml/events?q=status:refused", scripts=False)

    page.locator("tr[data-event] a.open").first.click()

    expect(page.locator("#drawer h2")).to_be_visible()
    expect(page.locator("#drawer .stored")).to_contain_text('"result":"refused"')


def test_a_tampered_log_makes_verify_now_red(visit, page_airflow):
    database = page_airflow.audit_dir / "trail.db"
    page = visit("/secure-ml/integrity")
    with sqlite3.connect(database) as changed:
        [(before,)] = changed.execute("SELECT data FROM leaf WHERE idx = 123").fetchall()
        after = before.replace('"v":1', '"v":2')
        changed.execute("UPDATE leaf SET data = ? WHERE idx = 123", (after,))
    try:
        page.get_by_role("button", name="Verify").click()

        verdict = page.locator("[data-verify-verdict]")
        expect(verdict).to_contain_text("The log was changed")
        expect(verdict).to_contain_text("123")
        expect(verdict).to_have_class("verdict bad")
    finally:
        with sqlite3.connect(database) as changed:
            changed.execute("UPDATE leaf SET data = ? WHERE idx = 123", (before,))
