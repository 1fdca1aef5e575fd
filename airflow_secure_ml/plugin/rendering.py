"""Turn templates into responses, with the headers that keep a hostile event harmless."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import Response
from fastapi.responses import HTMLResponse

from airflow_secure_ml import __version__
from airflow_secure_ml.plugin.access import ignores_dags
from airflow_secure_ml.services.report_html import TEMPLATES as REPORT_TEMPLATES

FOLDER = Path(__file__).parent
EVENTS, INTEGRITY = ("Events", "events"), ("Integrity", "integrity")
OBJECTS, KEYS, PRINCIPALS = ("Objects", "objects"), ("Keys", "keys"), ("Principals", "principals")
ALERTS = ("Alerts", "alerts")
REVIEWS, REPORTS = ("Reviews", "reviews"), ("Reports", "reports")
# Under SimpleAuth a script can read the session's cookie: nothing runs or loads but our own files.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([FOLDER / "templates", REPORT_TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(name: str, title: str, *, whole: bool, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page.

    Args:
        name: The template, without its ending.
        title: Which page of the navigation this is.
        whole: Whether the reader may see the whole log; some pages are only for them.
        status: The HTTP status.
        values: What the template shows.
    """
    things = (EVENTS, OBJECTS, KEYS, PRINCIPALS, ALERTS)
    pages = (*things, REVIEWS, REPORTS, INTEGRITY) if whole else things
    text = fragment(
        name, page=title, pages=pages, scope_whole=whole, ignores_dags=ignores_dags(), **values
    )
    return HTMLResponse(text, status_code=status)


def fragment(name: str, **values: Any) -> str:
    """Render a template to text."""
    return _templates().get_template(f"{name}.html").render(version=__version__, **values)


def href(target: str, **query: str) -> str:
    """A relative address with its query; empty values are left out."""
    kept = {name: value for name, value in query.items() if value}
    return f"{target}?{urlencode(kept)}" if kept else target


@functools.cache
def static_files() -> Mapping[str, tuple[bytes, str]]:
    """Name → content and type of everything that may be served as it is."""
    return {
        path.name: (path.read_bytes(), STATIC_TYPES[path.suffix])
        for path in (*(FOLDER / "static").iterdir(), REPORT_TEMPLATES / "report.css")
        if path.suffix in STATIC_TYPES
    }


def static_response(name: str) -> Response:
    """One static file; 404 for any other name."""
    found = static_files().get(name)
    if found is None:
        return Response(status_code=404)
    content, media_type = found
    # The same for everybody, and short enough that an upgrade is seen.
    headers = {"Cache-Control": "private, max-age=300"}
    return Response(content, media_type=media_type, headers=headers)
