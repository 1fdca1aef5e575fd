"""A report's HTML as PDF, by WeasyPrint; it comes with the extra `report`.

The page is ours and names nothing to load; should a text in it bring something all the same, it is
not fetched: neither from the network nor from this machine's files.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any, cast

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.extras import import_extra


def as_pdf(html: str) -> bytes:
    """Lay a page out for print; with the same library and fonts, the same bytes.

    Args:
        html: A whole page, with its style in it.

    Raises:
        MissingExtraError: WeasyPrint is not installed.
        ConfigurationError: The libraries that it draws with are not on this machine.
    """
    library = _weasyprint()
    fetcher = library.urls.URLFetcher(allowed_protocols=())
    page: Any = library.HTML(string=html, url_fetcher=fetcher)
    return cast("bytes", page.write_pdf(pdf_identifier=b"security-report"))


def _weasyprint() -> ModuleType:
    # It warns of each thing of a style sheet that print does without, for every report anew.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    try:
        return import_extra("weasyprint", extra="report")
    except OSError as error:
        raise ConfigurationError(
            "the extra report: WeasyPrint finds no Pango on this machine; install it (Debian: "
            "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0)"
        ) from error
