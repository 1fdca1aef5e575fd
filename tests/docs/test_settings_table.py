"""docs/settings.md says what is declared."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_settings_page_is_what_the_provider_declares():
    spec = importlib.util.spec_from_file_location("make_settings", DOCS / "make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    make_settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_settings)

    page = (DOCS / "settings.md").read_text(encoding="utf-8")

    assert page == make_settings.render(), "run `python docs/make_settings.py`"
