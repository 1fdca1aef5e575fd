"""What "Verify now" says as a reader sees it: what is whole in green, what to look at beside."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.airflow, pytest.mark.browser]


def colour(locator):
    return locator.evaluate("element => getComputedStyle(element).color")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_recordings_that_did_not_end_well_stand_beside_the_green_verdict(visit, scheme):
    page = visit("/secure-ml/integrity", scheme=scheme)
    verdict, look = page.locator("[data-verify-verdict]"), page.locator("[data-verify-look]")
    expect(look).to_be_hidden()

    page.get_by_role("button", name="Verify").click()

    expect(verdict).to_contain_text("Nothing has changed", timeout=60_000)
    expect(verdict).not_to_contain_text("Not ended well")
    expect(look).to_contain_text("Not ended well")
    assert colour(look) != colour(verdict)


def test_without_script_it_stands_beside_it_too(visit):
    page = visit("/secure-ml/integrity", scripts=False)

    page.get_by_role("button", name="Verify").click()

    expect(page.locator("[data-verify-verdict]")).to_contain_text("Nothing has changed")
    expect(page.locator("[data-verify-look]")).to_contain_text("Not ended well")
