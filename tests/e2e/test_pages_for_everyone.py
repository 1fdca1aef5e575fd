"""Every page for everybody: at 200 % zoom, without scripts, with a screen reader, unframed.

The pages are those of the navigation, and those that one of them leads to.
"""

from __future__ import annotations

import contextlib
import http.server

import pytest

from tests.e2e.harmless import faults
from tests.plugin import hostile
from tests.servers.serving import serving

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect

TABLE = "uri=file:///srv/lake/health/features-01.csv"
# A page of the navigation, or one below: its address and a word that it must show.
PAGES = {
    "events": ("events?q=dag:secure_training", "secure_training"),
    "run": ("run?dag_id=secure_training&run_id=scheduled__day-03", "task tries recorded"),
    "integrity": ("integrity", "What would be noticed"),
    "export": ("export?q=dag:secure_training", "What a CSV cell holds"),
    "reviews": ("reviews", "Give somebody a period"),
    "reports": ("reports", "Reports that were written"),
    "objects": ("objects", "Objects that the log names"),
    "object": (f"object?{TABLE}", "Who opened it"),
    "lineage": (f"lineage?{TABLE}", "The same as a table"),
    "keys": ("keys", "Leased credentials"),
    "key": ("key?name=archive&version=2", "Runs that used version 2"),
    "leases": ("leases", "may still be alive"),
    "principals": ("principals", "Show names"),
    "principal": ("principal?kind=dag&id=secure_training", "secure_training"),
    "alerts": ("alerts", "notify"),
    "rules": ("rules", "rule"),
    "report": ("report?first=2026-11-01&last=2026-11-28", "What this rests on"),
}


@pytest.fixture
def page_airflow(asked_airflow):
    """The browser opens the server whose trail is full of attacks."""
    return asked_airflow


def test_the_pages_tried_are_those_of_the_navigation(visit):
    links = visit("/secure-ml/events").locator(".top nav a")

    listed = {links.nth(number).get_attribute("href") for number in range(links.count())}
    assert listed <= {address.partition("?")[0] for address, _ in PAGES.values()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_used_at_200_percent(visit, name):
    address, word = PAGES[name]
    # 1280 by 800 at 200 % has as many CSS pixels.
    page = visit(f"/secure-ml/{address}", size=(640, 400))

    expect(page.locator("main")).to_contain_text(word)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    main = page.locator("main").bounding_box()
    assert main["height"] >= 200, "the frame around it leaves no room for the page"
    page.evaluate("document.querySelector('main').scrollTop = 1e6")
    last = page.locator("main > *").last.bounding_box()
    assert last["y"] + last["height"] <= 410, "its end cannot be reached by scrolling"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_without_scripts(visit, name):
    address, word = PAGES[name]
    page = visit(f"/secure-ml/{address}", scripts=False)

    expect(page.locator("main")).to_contain_text(word)
    hidden = page.locator("button:visible").filter(has_text="Copy")
    assert hidden.count() == 0, "a button that does nothing is shown"
    assert faults(page.content()) == []


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_on_a_page_and_nothing_goes_off(visit, name):
    page = visit(f"/secure-ml/{PAGES[name][0]}")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)

        violations = axe.Axe().run(page).response["violations"]

        assert [(v["impact"], v["id"], v["nodes"][0]["target"]) for v in violations] == [], scheme
    assert page.evaluate("window.hit") is None
    assert page.evaluate("[...document.scripts].every(s => s.src.includes('/static/'))")


@pytest.mark.parametrize("weapon", [hostile.SCRIPT, hostile.ATTRIBUTE, hostile.LINK, hostile.STYLE])
def test_nothing_goes_off_in_the_drawer_of_an_attack(visit, weapon):
    page = visit("/secure-ml/events?q=dag:hostile_dag%20act:object.open")
    row = page.locator("tr[data-event]").filter(has_text=weapon[:20]).first

    row.locator("a.open").click()

    expect(page.locator("#drawer h2")).to_be_visible()
    assert page.evaluate("window.hit") is None
    assert page.locator("#drawer img, #drawer iframe, #drawer style").count() == 0


class _Framing(http.server.BaseHTTPRequestHandler):
    """Another site, which shows a page of ours inside of its own."""

    target = ""

    def do_GET(self):
        body = f'<!doctype html><title>x</title><iframe src="{self.target}"></iframe>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_another_site_cannot_show_a_page_in_a_frame(chromium, asked_airflow):
    """Framed, a page's buttons could be laid under somebody's clicks."""
    _Framing.target = f"{asked_airflow.url}/secure-ml/integrity"
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Framing)
    with serving(site), contextlib.closing(chromium.new_context()) as context:
        context.add_cookies([asked_airflow.cookie("admin")])
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))

        page.goto(f"http://127.0.0.1:{site.server_port}/")
        page.wait_for_load_state("networkidle")

        assert any("frame-ancestors" in text for text in said), said
        assert all("secure-ml" not in frame.url for frame in page.frames[1:])
