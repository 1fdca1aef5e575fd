"""The report as PDF: laid out, the same every time, and nothing is fetched for it."""

from __future__ import annotations

import http.server
import sys

import pytest

from airflow_secure_ml.adapters.report_pdf import as_pdf
from airflow_secure_ml.errors import ConfigurationError, MissingExtraError
from tests.servers.serving import serving

pytest.importorskip("weasyprint")
PAGE = "<!doctype html><html lang=en><title>Report</title><body><h1>Report</h1>{}</body></html>"


@pytest.fixture
def asked():
    """A server on this machine; what it is asked for."""
    found = []

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", found


def test_the_same_page_gives_the_same_bytes():
    first = as_pdf(PAGE.format("<p>42</p>"))

    assert first.startswith(b"%PDF-")
    assert first == as_pdf(PAGE.format("<p>42</p>"))


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="{}/a.png">',
        '<link rel="stylesheet" href="{}/a.css">',
        '<object data="{}/a.svg"></object>',
        '<p style="background:url({}/a.png)">x</p>',
        "<style>@import url({}/a.css);</style>",
        '<style>@font-face{{font-family:x;src:url("{}/a.ttf")}} p{{font-family:x}}</style><p>x</p>',
        '<link rel="attachment" href="{}/a">',
    ],
    ids=["image", "style", "object", "background", "import", "font", "attachment"],
)
def test_nothing_is_fetched(asked, markup):
    address, found = asked

    made = as_pdf(PAGE.format(markup.format(address)))

    assert made.startswith(b"%PDF-")
    assert found == []


def test_no_file_of_the_machine_is_taken_in(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("canary-6f1d")

    made = as_pdf(PAGE.format(f'<link rel="attachment" href="{secret.as_uri()}"><p>x</p>'))

    assert b"EmbeddedFile" not in made


def test_without_the_extra_it_is_said_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)

    with pytest.raises(MissingExtraError, match=r"airflow-secure-ml\[report\]"):
        as_pdf(PAGE.format(""))


def test_without_pango_it_is_said_what_to_install(monkeypatch):
    def unable(module, *, extra):
        raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.setattr("airflow_secure_ml.adapters.report_pdf.import_extra", unable)

    with pytest.raises(ConfigurationError, match=r"libpango-1\.0-0"):
        as_pdf(PAGE.format(""))
