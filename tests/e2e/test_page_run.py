"""A run's page in a browser: what went in and came out, as a picture that goes on to other runs."""

from __future__ import annotations

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.airflow, pytest.mark.browser]
expect = playwright.expect
RUN = "/secure-ml/run?dag_id={}&run_id=scheduled__day-06"


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
def test_the_picture_shows_what_the_run_made_from_what(visit, scripts):
    page = visit(RUN.format("secure_training"), scripts=scripts)
    picture = page.locator(".flow .graph")

    titles = picture.locator(".node a").evaluate_all(
        "all => all.map(link => link.getAttribute('aria-label'))"
    )

    for name in ("raw-06.csv", "features-06.csv", "visits-06.skops", "ingest", "train", "score"):
        assert [title for title in titles if name in title], name
    assert picture.locator("path.arrow").count() == 7


def test_an_object_of_the_picture_leads_on(visit):
    page = visit(RUN.format("secure_training"))

    page.locator(".flow .graph .node.object a").last.click()
    page.wait_for_url(re.compile("/(object|lineage)"))

    expect(page.locator("main")).to_contain_text("visits-06")


def test_a_run_that_touched_nothing_has_no_picture(visit):
    page = visit("/secure-ml/run?dag_id=secure_training&run_id=never")

    expect(page.get_by_text("Nothing is recorded of this run.")).to_be_visible()
    expect(page.locator(".graph")).to_have_count(0)
