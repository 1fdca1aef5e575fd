"""Objects, keys, principals and lineage on a running API server: what they say, and to whom."""

from __future__ import annotations

import re
import urllib.parse

import pytest

from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.asking import Asker, until

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
DROP = "file:///srv/drop/visits-05.csv"
RAW = "file:///srv/lake/health/raw-05.csv"
MODEL = "file:///srv/models/visits-05.skops"
REFUSED = "file:///srv/lake/health/refused/plain_file.csv"
BILLING = "file:///srv/billing/part-1.parquet"


def to(page, **query):
    return f"{page}?{urllib.parse.urlencode(query)}"


PATHS = {
    "objects": "objects",
    "object": to("object", uri=RAW),
    "lineage": to("lineage", uri=DROP),
    "keys": "keys",
    "key": to("key", name="data", version="3"),
    "leases": "leases",
    "principals": "principals",
    "dag": to("principal", kind="dag", id="secure_training"),
}


@pytest.fixture
def reader(page_airflow):
    return lambda user="vera": Asker(page_airflow, user)


def person_in(store):
    [leaf] = store.page(EventQuery(acts=("key.rotate",), results=("ok",)), limit=1)
    return leaf.event["by"]["h"]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_anonymous_is_refused(reader, path):
    assert reader(user=None).ask(path)[0] == 401


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("objects?q=raw-05", ["raw-05.csv", RAW]),
        (
            to("object", uri=RAW),
            ["opened, 3.2 MB", "secure_training.features", "allowed by health", "data/3",
             "pipeline/2", "scheduled__day-05", "features-05.csv"],
        ),
        (to("object", uri=REFUSED), ["refused to open table: it is not sealed"]),
        (to("object", uri=DROP), ["secure_training.ingest"]),
        (to("lineage", uri=DROP), ["visits-05.skops", "ingest → features → train"]),
        (to("lineage", uri=MODEL), ["visits-05.csv", "raw-05.csv", "features-05.csv"]),
        ("keys", ["data", "models", "pipeline"]),
        (to("key", name="data", version="3"), ["scheduled__day-05", "billing_churn"]),
        (to("key", name="models", version="3"), ["8 runs; there are no others"]),
        ("principals", ["secure_training", "billing_churn", "Show names", "Workers"]),
        (
            to("principal", kind="dag", id="refusals"),
            ["refused to open table: it is not sealed", "bad_rows.csv", "Tasks"],
        ),
    ],
    ids=lambda value: value.partition("?")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_page_answers(reader, path, said):
    status, html, _ = reader().ask(path)

    assert status == 200
    assert [word for word in said if word not in html] == []


def test_who_opened_it_is_told_for_the_days_asked_for(reader):
    def days(after, before):
        return reader().ask(to("object", uri=RAW, after=after, before=before))[1]

    assert "Nobody tried between these days" in days("2020-01-01", "2020-12-31")
    assert "opened, 3.2 MB" in days("2020-01-01", "2100-01-01")


def test_a_day_that_is_none_is_said_to_be(reader):
    _, html, _ = reader().ask(to("object", uri=RAW, after="yesterday"))

    assert "is not a day" in html


@pytest.mark.parametrize(
    "path",
    [
        to("object", uri=RAW),
        to("lineage", uri=DROP),
        to("key", name="models"),
        to("principal", kind="dag", id="secure_training"),
    ],
    ids=["object", "lineage", "key", "dag"],
)
def test_another_dag_s_thing_looks_like_one_that_is_not_there(reader, path):
    page, _, query = path.partition("?")
    absent = {name: "zz" for name, _ in urllib.parse.parse_qsl(query)} | (
        {"kind": "dag"} if page == "principal" else {}
    )

    foreign = reader("bill").ask(path)[:2]
    nothing = reader("bill").ask(to(page, **absent))[:2]

    assert foreign[0] == 404
    assert foreign == nothing


@pytest.mark.parametrize("path", ["objects", "keys", "principals", to("object", uri=BILLING),
                                  to("key", name="data")])  # fmt: skip
def test_a_reader_of_one_team_sees_that_team_alone(reader, path):
    status, html, _ = reader("bill").ask(path)

    assert status == 200
    assert "billing" in html
    for word in ("secure_training", "refusals", "/lake/health", "models", "maria"):
        assert word not in html


@pytest.mark.parametrize("kind", ["worker", "person"])
def test_people_and_workers_are_for_readers_of_the_whole_log(reader, store, kind):
    name = person_in(store) if kind == "person" else "host-1"

    assert reader("bill").ask(to("principal", kind=kind, id=name))[0] == 403
    assert reader("bill").ask("people", {"token": "x"})[0] == 403


def test_names_are_shown_once_that_is_recorded(reader, store):
    vera = reader()
    looks = store.count(EventQuery(acts=("trail.view",)), at_most=10_000)

    _, before, _ = vera.ask("principals")
    status, after, _ = vera.ask("people", {"token": vera.form_token("principals")})

    assert "maria.keller" not in before
    assert status == 200
    assert "maria.keller" in after
    until(lambda: store.count(EventQuery(acts=("trail.view",)), at_most=10_000) > looks)


def test_a_person_is_the_hash_until_somebody_asks(reader, store):
    vera, person = reader(), person_in(store)
    address = to("principal", kind="person", id=person)

    _, before, _ = vera.ask(address)
    _, after, _ = vera.ask("principal", {"token": vera.form_token("principals"), "id": person})

    assert "rotated the key data" in before
    assert "maria.keller" not in before
    assert "maria.keller" in after

    def recorded():
        found = store.page(EventQuery(acts=("trail.view",)), limit=50)
        return [leaf for leaf in found if leaf.event["more"].get("query") == person]

    assert until(recorded)[0].event["more"]["page"] == "principal"


@pytest.mark.parametrize("name", ["maria.keller", "0" * 63, "g" * 64, ""])
def test_a_person_s_name_is_no_address(reader, name):
    assert reader().ask(to("principal", kind="person", id=name))[0] == 404


@pytest.mark.parametrize("path", ["people", "principal"])
@pytest.mark.parametrize("token", ["", "x", "999999.00"], ids=["none", "x", "forged"])
def test_names_need_a_form_of_ours(reader, store, path, token):
    answer = reader().ask(path, {"token": token, "id": person_in(store)})

    assert answer[0] in (403, 422)
    assert "maria.keller" not in answer[1]


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "' OR 1=1 --",
           "\u202e\u200b\x1b[31m", "%", "\x00", "a" * 20_000)  # fmt: skip
ASKED = (
    "objects?q=", "object?uri=", "object?digest=", "lineage?uri=", "lineage?way=", "key?name=",
    "key?version=", "leases?older=", "leases?after=", "principal?id=", "principal?kind=",
)  # fmt: skip


@pytest.mark.parametrize(
    "attack", HOSTILE, ids=["script", "image", "template", "sql", "bidi", "like", "nul", "long"]
)
def test_a_hostile_address_is_an_answer_and_stays_text(reader, attack):
    bill = reader("bill")
    for page in ASKED:
        status, html, _ = bill.ask(page + urllib.parse.quote(attack))

        assert status in (200, 403, 404, 414, 422), page
        assert "<script>alert" not in html, page
        assert "<img" not in html, page


@pytest.fixture
def look(visit):
    """Opens one of the pages."""
    return lambda path, **how: visit(f"/secure-ml/{path}", **how)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_axe_finds_nothing(look, path):
    page = look(path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)

        violations = axe.Axe().run(page).response["violations"]

        assert [(found["impact"], found["id"]) for found in violations] == [], scheme


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_page_fits_its_window(look, path):
    page = look(path)

    for width in (640, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_from_raw_data_to_its_model_by_clicks_alone(look):
    page = look("objects")

    page.locator("#q").fill("drop/visits-05")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="visits-05.csv").click()
    page.get_by_role("link", name="The whole lineage").click()

    ends = page.locator("#ends")
    expect(ends.get_by_role("link", name="visits-05.skops")).to_be_visible()
    expect(ends).to_contain_text("secure_training › scheduled__day-05")


def test_a_box_of_the_picture_leads_to_its_object(look):
    page = look(PATHS["lineage"])

    page.locator(".graph .node.object", has_text="raw-05.csv").click()

    expect(page.get_by_role("heading", name="raw-05.csv", exact=True)).to_be_visible()
    expect(page.locator("#opened")).to_contain_text("opened, 3.2 MB")


def test_the_picture_can_be_walked_by_keyboard(look):
    page = look(PATHS["lineage"])

    page.locator(".graph").focus()
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.closest('.graph a') !== null")


def test_the_picture_and_its_table_need_no_scripts(look):
    page = look(PATHS["lineage"], scripts=False)

    expect(page.locator(".graph .node.work")).to_have_count(4)
    expect(page.locator("#steps tbody tr")).to_have_count(4)


def test_boxes_of_the_picture_do_not_lie_on_each_other(look):
    page = look(to("lineage", uri=MODEL))

    places = page.locator(".graph .node").evaluate_all(
        "nodes => nodes.map(node => node.querySelector('.box').getBoundingClientRect().toJSON())"
    )

    for at, one in enumerate(places):
        for other in places[at + 1 :]:
            apart = (
                one["right"] <= other["left"] or other["right"] <= one["left"]
                or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
            )  # fmt: skip
            assert apart


def test_texts_stay_inside_their_boxes(look):
    page = look(to("lineage", uri=MODEL))

    outside = page.locator(".graph .node").evaluate_all(
        """nodes => nodes.filter(node => {
            const box = node.querySelector('.box').getBoundingClientRect();
            return [...node.querySelectorAll('text')].some(text => {
                const own = text.getBoundingClientRect();
                return own.right > box.right || own.bottom > box.bottom || own.left < box.left;
            });
        }).length"""
    )

    assert outside == 0


def test_the_runs_of_a_key_version_lead_to_their_run(look):
    page = look(PATHS["key"])

    page.locator("#runs").get_by_role("link", name=re.compile("scheduled__day-05")).first.click()

    expect(page.locator(".lane").nth(1)).to_be_visible()
