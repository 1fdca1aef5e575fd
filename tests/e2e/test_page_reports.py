"""Reports in the browser: a period's figures, each of which leads to as many events."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e.asking import Asker

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect


def days():
    now = time.time()
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(now - n * 86_400)) for n in (9, 2))
    return f"first={first}&last={last}"


def test_some_days_are_chosen_and_counted(visit):
    page = visit("/secure-ml/reports")

    page.get_by_role("link", name="Last 7 days").click()

    expect(page.get_by_role("heading", name="Security report")).to_be_visible()
    expect(page.locator(".r-head")).to_contain_text("refused")
    expect(page.locator(".r-head")).to_have_css("display", "flex")


@pytest.mark.parametrize("part", [".r-head", ".r-share", ".r-figures"])
def test_a_figure_leads_to_as_many_events(visit, part):
    page = visit(f"/secure-ml/report?{days()}")
    link = page.locator(f"{part} a").filter(has_text=re.compile("^[1-9]")).last
    number = link.inner_text()

    link.click()
    page.wait_for_url("**/events?q=*")

    expect(page.locator(".found")).to_have_text(f"{number} event{'s' if number != '1' else ''}")


def test_a_bar_leads_to_its_day(visit):
    page = visit(f"/secure-ml/report?{days()}")
    bar = page.locator(".r-chart a").nth(4)
    count = re.search(r"([\d,]+) events", bar.locator("title").text_content())[1]

    bar.click()
    page.wait_for_url("**/events?q=*")

    expect(page.locator(".found")).to_have_text(f"{count} events")


def test_a_refusal_leads_to_its_event(visit):
    page = visit(f"/secure-ml/report?{days()}")

    page.locator(".r-list tbody a").first.click()

    expect(page.locator(".drawer")).to_contain_text("refused")


def test_a_report_is_printed_without_the_page_around_it(visit):
    page = visit(f"/secure-ml/report?{days()}")

    page.emulate_media(media="print")

    expect(page.locator(".top nav")).to_be_hidden()
    expect(page.locator(".r-head")).to_be_visible()


@pytest.mark.parametrize(
    "query",
    ["", "first=x&last=y", "first=2026-11-02&last=2026-11-01", "first=0001-01-01&last=2026-11-01"],
    ids=["nothing", "no days", "turned round", "too long ago"],
)
def test_what_is_no_period_is_refused_in_words(page_airflow, query):
    answer = Asker(page_airflow, "admin").ask(f"report?{query}")

    assert answer.status == 400
    assert "day" in answer.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["reports", "report"])
def test_axe_finds_nothing(visit, path, scheme):
    page = visit(f"/secure-ml/{path}?{days()}", scheme=scheme)

    violations = axe.Axe().run(page).response["violations"]

    assert [(found["impact"], found["id"]) for found in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
