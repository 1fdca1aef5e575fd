"""Take the pictures of docs/pictures: `make pictures`.

Runs an Airflow API server over a made-up week of events, looks at the pages with a headless
Chromium, light and dark, and stops everything again. About two minutes.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from playwright.sync_api import Browser, FrameLocator, Page

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
SIZE = {"width": 1440, "height": 860}
RUN_TAB = "/dags/secure_training/runs/scheduled__day-07/plugin/security-audit-run"


def main() -> None:
    """Take every picture in both schemes."""
    PICTURES.mkdir(exist_ok=True)
    module = _module()
    with (
        tempfile.TemporaryDirectory() as folder,
        module.running(Path(folder)) as airflow,
        module.chromium() as browser,
    ):
        for name, address, prepare in SCENES:
            for scheme, suffix in (("light", ""), ("dark", "-dark")):
                page = _page(browser, airflow, scheme)
                page.goto(airflow.url + address)
                prepare(page.frame_locator("iframe"))
                _take(page, PICTURES / f"{name}{suffix}.png")


def _open_refusal(frame: FrameLocator) -> None:
    frame.locator("tr.bad a.open", has_text="refused to open model").first.click()
    frame.get_by_role("button", name="Check it here").click()
    frame.locator("[data-verdict].good").wait_for()


def _wait_for_lanes(frame: FrameLocator) -> None:
    frame.locator(".lane").nth(4).wait_for()


def _verify(frame: FrameLocator) -> None:
    frame.get_by_role("link", name="Integrity").click()
    frame.get_by_role("button", name="Verify").click()
    frame.locator("[data-verify-verdict].good").wait_for()


def _page(browser: Browser, airflow: object, scheme: str) -> Page:
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type] # two words
    context.add_cookies([airflow.cookie("admin")])  # type: ignore[attr-defined] # of a module loaded by its path
    return context.new_page()


def _take(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path, animations="disabled", caret="hide")
    page.context.close()
    print(path.relative_to(ROOT))  # noqa: T201 - says what it made


def _module() -> ModuleType:
    """The page tests' Airflow; tests are no package."""
    path = ROOT / "tests" / "e2e" / "page_airflow.py"
    spec = importlib.util.spec_from_file_location("page_airflow", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SCENES = (
    ("integrity", "/plugin/security-audit", _verify),
    ("run", RUN_TAB, _wait_for_lanes),
    ("events", "/plugin/security-audit", _open_refusal),
)

if __name__ == "__main__":
    main()
