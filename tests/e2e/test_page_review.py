"""Reviews as people work with them: given out, noted, signed off; whoever may not is refused."""

from __future__ import annotations

import re
import sqlite3
import time

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.asking import until

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
NOTE = "Looked at every refusal: <b>the drill</b> \u202eand no more."


def newest(store, act):
    found = store.page(EventQuery(acts=(act,)), limit=1)
    return found[0].event if found else None


def give_out(visit, days, person):
    """An administrator gives somebody a period; returns the page that shows it."""
    page = visit("/secure-ml/reviews")
    page.fill("[name=first]", days[0])
    page.fill("[name=last]", days[1])
    page.fill("[name=person]", person)
    page.fill("[name=note]", "Every refusal, and who exported.")
    page.get_by_role("button", name="Assign").click()
    page.wait_for_url("**/review?name=*")
    return page


def days_ago(first, last):
    """Two days, each by how long ago it is."""
    now = time.time()
    return tuple(time.strftime("%Y-%m-%d", time.gmtime(now - n * 86_400)) for n in (first, last))


def test_a_period_is_given_out_noted_and_signed_off(visit, store, page_airflow):
    page = give_out(visit, days_ago(5, 2), "olaf")
    address = page.url.removeprefix(page_airflow.url)
    expect(page.get_by_role("heading", name="Review of")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Only the reviewer signs it off.")

    page = visit(address, user="olaf")
    page.locator("form[action=note-review] textarea").fill(NOTE)
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".notes")).to_contain_text("<b>the drill</b> \\u202eand no more.")
    page.locator("#conclusion").fill("Nothing that is not explained.")
    page.get_by_role("button", name="Sign off").click()

    expect(page.locator("main")).to_contain_text(re.compile("same log, (grown by|nothing added)"))
    expect(page.get_by_role("button", name="Sign off")).to_have_count(0)
    signed = newest(store, "review.sign")
    note = store.checkpoint(at_most=signed["more"]["size"])
    assert note.split("\n")[1] == str(signed["more"]["size"])
    assert signed["more"]["signer"] == store.origin()
    # Neither who nor what was written stands in the event.
    for act in ("review.assign", "review.note", "review.sign"):
        event = newest(store, act)
        assert set(event["by"]) == {"h", "n"}
        assert set(event["more"]["note"]) == {"h", "n"}
    assert set(newest(store, "review.assign")["more"]["assignee"]) == {"h", "n"}


def test_the_log_grows_and_the_sign_off_still_holds(visit, store, page_airflow):
    page = give_out(visit, days_ago(4, 3), "admin")
    address = page.url.removeprefix(page_airflow.url)
    page.get_by_role("button", name="Sign off").click()
    expect(page.locator("main")).to_contain_text("same log")
    size = newest(store, "review.sign")["more"]["size"]

    visit("/secure-ml/reviews").get_by_role("button", name="Show names").click()
    until(lambda: int(store.checkpoint().split("\n")[1]) > size + 1)

    page = visit(address)
    expect(page.locator("main")).to_contain_text(re.compile(r"same log, grown by \d+ since"))


def test_a_changed_log_is_not_the_one_that_was_signed_off(visit, store, page_airflow):
    page = give_out(visit, days_ago(3, 3), "admin")
    address = page.url.removeprefix(page_airflow.url)
    page.get_by_role("button", name="Sign off").click()
    expect(page.locator("main")).to_contain_text("same log")
    size = newest(store, "review.sign")["more"]["size"]
    until(lambda: int(store.checkpoint().split("\n")[1]) > size)
    database = page_airflow.audit_dir / LOG_FILE
    # A leaf above the last full tile, so that its hash is read where it is stored.
    index = size - 1

    with sqlite3.connect(database) as changed:
        [(before,)] = changed.execute("SELECT hash FROM leaf WHERE idx = ?", (index,)).fetchall()
        changed.execute("UPDATE leaf SET hash = ? WHERE idx = ?", (bytes(32), index))
    try:
        page = visit(address)
        expect(page.locator("main")).to_contain_text("another history")
        expect(page.locator(".mark.bad").first).to_contain_text("does not hold")
    finally:
        with sqlite3.connect(database) as changed:
            changed.execute("UPDATE leaf SET hash = ? WHERE idx = ?", (before, index))


def test_a_note_is_written_on_one_event(visit, store):
    give_out(visit, days_ago(6, 6), "olaf")
    page = visit("/secure-ml/events?q=status:refused")
    page.locator("tr[data-event] a.open").first.click()

    page.get_by_role("link", name="Notes of reviewers").click()
    page.locator("textarea").fill("This is the drill.")
    page.get_by_role("button", name="Add").click()

    expect(page.locator(".notes")).to_contain_text("This is the drill.")
    noted = newest(store, "review.note")
    assert store.find(noted["of"]).event["result"] == "refused"


def test_names_are_shown_when_asked_for_and_that_is_recorded(visit, store):
    give_out(visit, days_ago(2, 2), "vera")
    page = visit("/secure-ml/reviews")
    expect(page.locator("main")).to_contain_text("somebody else")
    expect(page.locator("main")).not_to_contain_text("vera")
    before = newest(store, "trail.view")

    page.get_by_role("button", name="Show names").click()

    expect(page.locator("main")).to_contain_text("vera")
    seen = until(lambda: (found := newest(store, "trail.view")) != before and found)
    assert seen["more"]["page"] == "reviews"


def test_a_period_that_is_not_over_is_not_signed_off(visit):
    page = give_out(visit, days_ago(1, 0), "admin")

    expect(page.locator("main")).to_contain_text("The period is not over yet.")
    expect(page.get_by_role("button", name="Sign off")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, scheme):
    address = give_out(visit, days_ago(7, 7), "admin").url
    name = address.partition("?")[2]

    for path in ("reviews", f"review?{name}", f"note?event={name.partition('=')[2]}"):
        page = visit(f"/secure-ml/{path}", scheme=scheme)
        violations = axe.Axe().run(page).response["violations"]
        assert [(found["impact"], found["id"]) for found in violations] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
