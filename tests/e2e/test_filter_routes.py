"""The filter over HTTP: hostile boxes do nothing, and whoever asks for a person is on record."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.asking import Asker, until

pytestmark = pytest.mark.airflow
PERSON = "maria.keller"


@pytest.fixture
def admin(page_airflow):
    return Asker(page_airflow, "admin")


def asking(path, **query):
    return f"{path}?{urllib.parse.urlencode(query)}"


def looked_at(store):
    """The queries of all events that say that somebody looked at a person, newest first."""
    leaves = store.page(EventQuery(acts=("trail.view",)), limit=500)
    return [
        leaf.event["more"]["query"] for leaf in leaves if leaf.event["more"]["page"] == "person"
    ]


@pytest.mark.parametrize("sign", ["", "-"], ids=["asked for", "left out"])
def test_asking_for_a_person_is_recorded_without_the_name(admin, store, sign):
    found = admin.ask(asking("events", q=f"act:key.rotate {sign}by:{PERSON}"))

    assert found.status == 200
    assert ("will rotate the key" in found.text) == (sign == "")
    until(lambda: "act:key.rotate by:…" in looked_at(store))
    assert not any(PERSON in query for query in looked_at(store))


def test_what_is_asked_in_the_background_tells_nothing_of_a_person(admin, store):
    oldest = store.leaf(0).event
    name = f"{oldest['emitter']}:{oldest['seq']}"

    newer = admin.ask(asking("newer", q=f"by:{PERSON}", name=name))
    typed = f"by:{PERSON} act:key.rot"
    offered = admin.ask(asking("complete", q=typed, at=len(typed)))

    assert json.loads(newer.text) == {"count": 0}
    without = admin.ask(asking("complete", q="act:key.rot", at=11))
    assert json.loads(offered.text)["offers"] == json.loads(without.text)["offers"]


@pytest.mark.parametrize(
    "q",
    [
        '<script>alert(1)</script> "><img src=x onerror=alert(1)>',
        "<script>alert(1)</script>:x stauts:<script>alert(1)</script>",
        'dag:"<script>alert(1)</script>" -task:"<script>alert(1)</script>"',
        'dag:"<script>alert(1)</script>',
    ],
    ids=["words", "no field", "values", "open quotation"],
)
def test_markup_in_the_box_stays_text(admin, q):
    found = admin.ask(asking("events", q=q))

    assert found.status == 200
    assert "<script>alert" not in found.text
    assert "<img src=x" not in found.text
    assert "alert(1)" in found.text


@pytest.mark.parametrize(
    "q",
    ["dag:a\u202eb", "\u200b", "dag:\x00", "\x1b[31m", 'dag:"a\u2028b"', "stauts:\u202e"],
    ids=["bidi", "zero width", "NUL", "ANSI", "line", "problem"],
)
def test_what_would_hide_or_reorder_text_is_shown_as_escapes(admin, q):
    hidden = [char for char in q if not char.isprintable()]

    found = admin.ask(asking("events", q=q))

    assert found.status == 200
    assert not any(char in found.text for char in hidden)
    assert all(f"\\u{ord(char):04x}" in found.text for char in hidden)


@pytest.mark.parametrize(
    "q",
    ['dag:"\' OR 1=1 --"', '-dag:"\' OR 1=1 --" dag:"x\') --"', "key:a) version:1", "%' --"],
    ids=["quote", "excluded", "bracket", "pattern"],
)
def test_a_filter_is_a_value_and_never_a_query(admin, q):
    found = admin.ask(asking("events", q=q))

    assert found.status == 200
    assert "No event matches" in found.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"q": "a" * 20_000, "at": 15_000}, 200),
        ({"q": "dag:", "at": -1}, 200),
        ({"q": "dag:", "at": 10**18}, 200),
        ({"q": "dag:", "at": "x"}, 422),
        ({"q": "dag:\x00", "at": 5}, 200),
        ({"q": '"' * 1000, "at": 500}, 200),
        ({"q": "-" * 2000, "at": 2000}, 200),
    ],
    ids=["long", "before", "behind", "no number", "NUL", "quotes", "dashes"],
)
def test_completion_answers_whatever_it_is_asked(admin, query, status):
    found = admin.ask(asking("complete", **query))

    assert found.status == status
    assert found.headers["Content-Type"].startswith("application/json")


def test_bytes_that_are_no_text_are_no_error(admin):
    assert admin.ask("events?q=dag:%ED%A0%80%FF").status == 200
    assert admin.ask("events?q=dag:%22%5Cud800%22").status == 200
