"""The Events page in a browser: the chart, values to click, the box that completes and points."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
EVENTS = "/secure-ml/events"


def asked(page):
    """The filter that the page's address carries."""
    return parse_qs(urlsplit(page.url).query).get("q", [""])[0]


def drag(page, start, end):
    """Drag over the chart, from and to shares of its width."""
    box = page.locator("svg.bars").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, y)
    page.mouse.move(box["x"] + box["width"] * end, y)
    page.mouse.up()


def offers(page):
    return page.get_by_role("option")


def test_dragging_over_the_chart_zooms_into_that_time(visit):
    page = visit(f"{EVENTS}?q=dag:secure_training")
    before = page.locator("svg.bars").get_attribute("aria-label")

    drag(page, 0.30, 0.60)
    page.wait_for_url(re.compile("after"))

    assert re.fullmatch(r"dag:secure_training after:\S+ before:\S+", asked(page))
    assert page.locator("svg.bars").get_attribute("aria-label") != before
    assert page.locator("tr[data-event]").count() > 0


def test_escape_ends_a_drag_and_nothing_moves(visit):
    page = visit(EVENTS)
    box = page.locator("svg.bars").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 10)
    expect(page.locator("[data-dragged]")).to_be_visible()

    page.keyboard.press("Escape")
    page.mouse.up()

    expect(page.locator("[data-dragged]")).to_be_hidden()
    assert asked(page) == ""


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
def test_a_bar_is_a_link_into_its_own_time(visit, scripts):
    page = visit(EVENTS, scripts=scripts)
    bar = page.locator("svg.bars a").first
    said = bar.get_attribute("aria-label")

    bar.click()
    page.wait_for_url(re.compile("before"))

    number = re.search(r": ([\d,]+) events?", said)[1]
    expect(page.locator(".pager .found")).to_contain_text(number)


def test_arrow_keys_go_from_bar_to_bar_and_say_what_it_holds(visit):
    page = visit(EVENTS)
    bars = page.locator("svg.bars a")

    bars.last.focus()
    page.keyboard.press("Home")

    expect(bars.first).to_be_focused()
    expect(page.locator("[data-readout]")).to_have_text(bars.first.get_attribute("aria-label"))
    assert bars.evaluate_all("all => all.filter(bar => bar.tabIndex === 0).length") == 1


def test_a_click_on_a_value_asks_for_it_and_alt_click_leaves_it_out(visit):
    page = visit(EVENTS)

    page.locator("td.c-where a", has_text="secure_training").first.click()
    page.wait_for_url(re.compile("q="))
    assert asked(page) == "dag:secure_training"
    page.locator("td.c-where a[data-but*='-task']").first.click(modifiers=["Alt"])
    page.wait_for_url(re.compile("-task"))

    assert asked(page).startswith("dag:secure_training -task:")
    left_out = asked(page).partition("-task:")[2]
    where = page.locator("td.c-where").all_inner_texts()
    assert where
    assert not [text for text in where if f".{left_out} " in text]


def test_a_value_is_left_out_without_a_script_too_and_taken_back(visit):
    page = visit(f"{EVENTS}?q=dag:refusals", scripts=False)
    page.locator("tr[data-event] a.open").first.click()

    page.get_by_role("link", name="Leave out Activity").first.click(force=True)

    assert re.fullmatch(r"dag:refusals -act:\S+", asked(page))


def test_a_left_out_value_is_struck_through_and_a_click_takes_it_back(visit):
    page = visit(f"{EVENTS}?q=-dag:secure_training")

    page.locator(".facet a.out").click()
    page.wait_for_url(lambda url: "secure_training" not in url)

    assert asked(page) == ""


def test_the_box_completes_fields_and_then_their_values(visit):
    page = visit(EVENTS)
    box = page.locator("#q")

    box.press_sequentially("da")
    expect(offers(page).first).to_contain_text("dag:")
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("dag:")
    expect(offers(page).first).to_contain_text("secure_training")
    box.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", "offer-0")
    box.press("Enter")
    expect(box).to_have_value("dag:secure_training ")
    box.press("Escape")
    box.press("Enter")
    page.wait_for_url(re.compile("q="))

    assert asked(page).strip() == "dag:secure_training"


def test_an_offer_is_taken_with_the_mouse_in_the_middle_of_the_box(visit):
    page = visit(f"{EVENTS}?q=status:allowed")
    box = page.locator("#q")
    box.focus()
    box.press("Home")

    box.press_sequentially("dag:ref")
    box.press("Space")
    box.press("ArrowLeft")
    box.press("ArrowDown")
    offers(page).filter(has_text="refusals").click()

    expect(box).to_have_value("dag:refusals status:allowed")


def test_who_may_read_one_team_s_dags_is_offered_those_alone(visit):
    page = visit(EVENTS, user="bill")

    page.locator("#q").press_sequentially("dag:")
    expect(offers(page).first).to_be_visible()

    assert [text.split()[0] for text in offers(page).all_inner_texts()] == ["billing_churn"]
    assert "secure_training" not in page.content()


def test_a_wrong_word_is_pointed_at_and_what_was_meant_is_a_click_away(visit):
    page = visit(f"{EVENTS}?q=dag:refusals+stauts:refused")

    expect(page.locator(".pointed mark")).to_have_text("stauts:refused")
    picked = page.evaluate(
        "(({value, selectionStart, selectionEnd}) => value.slice(selectionStart, selectionEnd))"
        "(document.activeElement)"
    )
    assert picked == "stauts:refused"
    page.get_by_role("link", name="Search for").click()
    page.wait_for_url(re.compile("status"))

    assert asked(page) == "dag:refusals status:refused"
    assert page.locator("tr[data-event]").count() > 0


def test_a_filter_is_saved_in_the_browser_opened_and_forgotten(visit):
    page = visit(f"{EVENTS}?q=status:refused")
    page.get_by_text("Saved", exact=True).click()
    page.get_by_label("Save this filter as").fill("<b>refusals</b>")
    page.get_by_label("Save this filter as").press("Enter")
    page.goto(page.url.partition("?")[0])
    page.wait_for_selector("html[data-ready]")

    page.get_by_text("Saved", exact=True).click()
    page.get_by_role("link", name="<b>refusals</b>").click()
    page.wait_for_url(re.compile("q="))
    assert asked(page) == "status:refused"
    page.get_by_text("Saved", exact=True).click()
    page.get_by_role("button", name="Forget <b>refusals</b>").click()

    expect(page.get_by_text("No filter is saved in this browser yet.")).to_be_visible()


@pytest.mark.parametrize(
    "stored",
    ["not JSON", '{"name": 1}', '[{"name": {}, "q": "x"}, null, 7]', "null"],
    ids=["text", "object", "things", "null"],
)
def test_what_another_page_left_in_the_storage_does_no_harm(visit, stored):
    page = visit(EVENTS)
    page.evaluate("value => localStorage.setItem('secure-ml.saved-filters', value)", stored)

    page.reload()
    page.wait_for_selector("html[data-ready]")
    page.get_by_text("Saved", exact=True).click()

    expect(page.get_by_text("No filter is saved in this browser yet.")).to_be_visible()


def test_new_events_are_announced_and_nothing_moves(visit):
    page = visit(f"{EVENTS}?q=dag:secure_training")
    first = page.locator("tr[data-event] a.open").first.inner_text()
    known = int(page.locator(".fresh").get_attribute("data-known"))
    # Waiting for events of a trail that nobody writes would wait for ever.
    page.route("**/newer?**", lambda route: route.fulfill(json={"count": known + 12}))

    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(page.get_by_role("link", name="12 new events")).to_be_visible()
    assert page.locator("tr[data-event] a.open").first.inner_text() == first


def test_the_server_counts_nothing_as_new_that_was_there_already(visit):
    page = visit(f"{EVENTS}?q=dag:secure_training")
    place = page.locator(".fresh")
    known, newest = place.get_attribute("data-known"), place.get_attribute("data-newest")

    answer = page.evaluate(
        "async name => (await (await fetch('newer?' + new URLSearchParams("
        "{name, q: 'dag:secure_training'}))).json()).count",
        newest,
    )

    assert answer == int(known)


def test_e_exports_what_the_filter_finds(visit):
    page = visit(f"{EVENTS}?q=status:refused")

    page.keyboard.press("e")
    page.wait_for_url(re.compile("/export"))

    assert asked(page) == "status:refused"


def test_the_drawn_path_turns_green_when_the_proof_holds(visit):
    # Nothing that other tests' visits add, which no checkpoint may cover yet.
    page = visit(f"{EVENTS}?q=dag:secure_training+act:object.seal")
    page.locator("tr[data-event]").first.click()
    page.locator("#proof").wait_for()
    hashes = page.evaluate("document.getElementById('proof').dataset.path.split(' ').length")
    assert page.locator(".tree circle.sibling").count() == hashes
    assert page.locator(".tree .path li").count() == hashes + 2

    page.get_by_role("button", name="Check it here").click()

    expect(page.locator(".tree.holds")).to_be_visible()


def test_the_events_around_one_are_a_click_away(visit):
    page = visit(f"{EVENTS}?q=act:object.open+status:allowed")
    page.locator("tr[data-event]").first.click()
    page.locator("#drawer dt", has_text="Asked in").wait_for()

    page.locator("#drawer dt:has-text('Asked in') + dd a.open").click()

    expect(page.locator("#drawer h2")).to_contain_text("will read")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_while_something_is_open(visit, scheme):
    page = visit(f"{EVENTS}?q=-dag:refusals+after:30d", scheme=scheme)
    page.locator("#q").press("End")
    page.locator("#q").press_sequentially(" st")
    expect(offers(page).first).to_be_visible()

    violations = axe.Axe().run(page).response["violations"]

    assert [(found["impact"], found["id"]) for found in violations] == []


@pytest.mark.parametrize("address", [EVENTS, f"{EVENTS}?q=stauts:x"], ids=["list", "problem"])
def test_at_twice_the_size_everything_is_still_there(visit, address):
    # 1280 pixels at 200 % zoom are 640.
    page = visit(address, size=(640, 400))

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("#q")).to_be_visible()
