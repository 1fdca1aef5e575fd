"""A log full of attacks, read on every page; and pages asked in every way that harms others."""

from __future__ import annotations

import json
import re
import urllib.parse
from datetime import UTC, datetime

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin.filters import parse_filter
from tests.e2e.asking import Asker, events_of, first_of_each, routes, rows_in, values_of
from tests.e2e.harmless import faults, hidden_characters
from tests.plugin import hostile

pytestmark = pytest.mark.airflow
_ASKED = re.compile(r'<input (id="q" name="q"|type="hidden" name="[a-z]+") value="[^"]*"')
# What an answer may be; 5xx is none of them.
ANSWERS = {200, 303, 307, 400, 401, 403, 404, 405, 409, 413, 422}


@pytest.fixture(scope="module")
def store(asked_airflow):
    return SqliteAuditReader(asked_airflow.audit_dir / LOG_FILE)


@pytest.fixture(scope="module")
def attacks(store):
    """An event for each weapon and activity of the attacker."""
    found = [
        event
        for act in ("object.open", "lease.grant", "alert.raise", "trail.view")
        for event in first_of_each(
            [e for e in events_of(store, acts=(act,)) if e.get("run", {}).get("ti")], "run"
        )
        if event["run"].get("run") in hostile.WEAPONS
    ]
    assert len(found) == 4 * len(hostile.WEAPONS)
    return found


@pytest.fixture(scope="module")
def opened(store):
    """What a route may be asked about an event of no attacker."""
    query = EventQuery(dag="secure_training", acts=("object.open",))
    return values_of(store.page(query, limit=1)[0].event)


@pytest.fixture(scope="module")
def auditor(asked_airflow):
    return Asker(asked_airflow, "admin")


def check(answer, about):
    assert answer.status in ANSWERS, (about, answer.status)
    if "html" in answer.headers.get("Content-Type", ""):
        assert faults(answer.text) == [], about
    # A form asks again for what was asked for, as it was; everything else shows the escape.
    shown = _ASKED.sub("", answer.text)
    assert hidden_characters(shown, hostile.HIDING) == [], about


@pytest.mark.parametrize("route", routes("GET"), ids=lambda route: route.path)
def test_a_hostile_event_harms_no_page(auditor, attacks, route):
    asked = {route.address(values_of(e) | {"q": ""} | route.values(e)) for e in attacks}

    for address in sorted(asked):
        check(auditor.ask(address), address)


def test_a_list_of_hostile_events_harms_nobody(auditor):
    seen = 0
    for answer in auditor.lists("events?q=show:everything"):
        check(answer, f"the list after {seen} events")
        seen += len(rows_in(answer.text))

    assert seen > 16 * len(hostile.WEAPONS)


@pytest.mark.parametrize(
    ("weapon", "shown"),
    [
        (hostile.SCRIPT, "&lt;script&gt;window.hit=1&lt;/script&gt;"),
        (hostile.TEMPLATE, "{{7*7}}{%print(6*7)%}${8*8}"),
        (hostile.BIDI, "invoice\\u202exslx.exe\\u2066"),
        (hostile.INVISIBLE, "ad\\u200bm\\u200di\\ufeffn\\u2060"),
        (hostile.ANSI, "\\u001b[2J"),
        (hostile.LINES, "ok\\u000d\\u000aSet-Cookie"),
    ],
    ids=["script", "template", "bidi", "invisible", "terminal", "lines"],
)
def test_a_weapon_is_on_the_page_as_text(auditor, attacks, weapon, shown):
    """So that a page without it is not the reason why nothing went off."""
    [event] = [e for e in attacks if e["run"]["run"] == weapon and e["act"] == "object.open"]

    assert shown in auditor.ask(f"event?name={values_of(event)['name']}").text


@pytest.mark.parametrize("weapon", hostile.WEAPONS, ids=lambda weapon: repr(weapon)[:24])
def test_a_hostile_address_harms_no_page(auditor, weapon):
    for route in routes("GET"):
        address = route.address(dict.fromkeys(route.takes, weapon))
        answer = auditor.ask(address)

        assert answer.status in ANSWERS, address
        if "html" in answer.headers.get("Content-Type", ""):
            assert faults(answer.text) == [], address


@pytest.mark.parametrize(
    "value",
    ["9" * 400, "f" * 32 + ":" + "9" * 30, "-1", "1e999", "\x00", "%00", "\ud7ff", "x" * 30_000],
    ids=["digits", "far", "negative", "float", "nul", "escaped nul", "edge", "long"],
)
def test_an_odd_value_is_an_answer_and_no_crash(auditor, value):
    for route in routes("GET"):
        address = route.address(dict.fromkeys(route.takes, value))
        answer = auditor.ask(address)

        assert answer.status in ANSWERS | {414, 431}, (route.path, answer.status)
        assert len(answer.text) < 2_000_000, route.path


@pytest.mark.parametrize(
    "name",
    ["..%2fapp.py", "%2e%2e/app.py", "..%5capp.py", "%2e%2e%2f%2e%2e%2fapp.py", "page.css%00.py",
     "/etc/passwd", "%2fetc%2fpasswd", "page.css/../../app.py", ".", ""],
)  # fmt: skip
def test_no_file_but_ours_is_served(auditor, name):
    answer = auditor.ask(f"static/{name}")

    assert answer.status == 404
    assert "import" not in answer.text


@pytest.mark.parametrize("user", [None, "admin"], ids=["anonymous", "admin"])
def test_every_answer_carries_the_headers(asked_airflow, opened, user):
    asker = Asker(asked_airflow, user)
    answers = {
        route.path: asker.ask(route.address(opened | {"q": ""}))
        for route in routes("GET")
        if "static" not in route.path
    }
    answers |= {f"POST {route.path}": asker.ask(route.path[1:], {}) for route in routes("POST")}
    answers |= {path: asker.ask(path) for path in ("no/such", "static/page.css", "verify")}

    for path, answer in answers.items():
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, path
        assert "frame-ancestors 'self'" in policy, path
        assert "unsafe" not in policy, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path


def test_anonymous_is_refused_on_every_route(asked_airflow, opened):
    nobody = Asker(asked_airflow)
    values = opened | {"q": "", "token": "x"}
    answers = {route.path: nobody.ask(route.address(values)).status for route in routes("GET")}
    answers |= {
        f"POST {route.path}": nobody.ask(route.path[1:], form_of(route, values)).status
        for route in routes("POST")
    }

    assert {path: status for path, status in answers.items() if status != 401} == {}


def form_of(route, values):
    """A form that a route understands, from `values` or with a word of its own."""
    return {name: values.get(name, "x") for name in route.takes}


@pytest.mark.parametrize("route", routes("POST"), ids=lambda route: route.path)
@pytest.mark.parametrize(
    "way",
    ["no token", "another's token", "an old token", "another site", "the address"],
)
def test_what_others_make_a_browser_send_changes_nothing(asked_airflow, opened, route, way):
    admin, other = Asker(asked_airflow, "admin"), Asker(asked_airflow, "anna")
    form = form_of(route, opened | {"q": "dag:secure_training", "form": "json"})
    form |= {"token": admin.form_token()}
    headers = {}
    if way == "no token":
        del form["token"]
    elif way == "another's token":
        form["token"] = other.form_token()
    elif way == "an old token":
        form["token"] = f"{int(form['token'].partition('.')[0]) - 13}.{'0' * 64}"
    elif way == "another site":
        headers["Sec-Fetch-Site"] = "cross-site"
    if way == "the address":
        address = f"{route.path[1:]}?{urllib.parse.urlencode(form)}"
        answer = admin.ask(address)
        is_page = route.path in {get.path for get in routes("GET")}
        assert answer.status == 405 or is_page
        return

    answer = admin.ask(route.path[1:], form, **headers)

    assert answer.status in (403, 422)


@pytest.mark.parametrize("route", routes("POST"), ids=lambda route: route.path)
def test_a_reader_without_rights_changes_nothing(asked_airflow, opened, route):
    """Looking is allowed to whoever may read; anything else needs a right."""
    rudi = Asker(asked_airflow, "rudi")
    form = form_of(route, opened | {"q": "", "form": "json"}) | {"token": rudi.form_token()}

    answer = rudi.ask(route.path[1:], form)

    assert answer.status in ((200, 404, 409, 422) if route.path in LOOKING else (403, 422))


# What needs no right but to read: each leaves an event that says who looked.
LOOKING = {"/person", "/people", "/principal", "/name-reviewers", "/proof", "/verify"}


def test_a_filter_is_never_more_than_a_filter(auditor):
    """No word of the filter's reaches the store's language: the count stays zero."""
    words = [
        "dag:\"x\\\" OR 1=1 --\"", "object:%", "object:_", "run:' UNION SELECT data FROM leaf --",
        "emitter:*", "act:object.%", "task:$.run.dag", "dag:x')--", "ti:\\", "key:[0-9]",
    ]  # fmt: skip
    for word in words:
        answer = auditor.ask("events?" + urllib.parse.urlencode({"q": word}))

        assert answer.status == 200, word
        assert "<tr data-event=" not in answer.text, word


def test_a_link_to_a_dag_of_a_hostile_name_filters_by_that_dag_alone(auditor, attacks):
    """A quote in the name must not end the word, and let the rest be words of the filter."""
    for event in attacks:
        if event["act"] != "alert.raise":
            continue
        text = auditor.ask(f"alerts?alert={values_of(event)['name']}").text
        asked = re.findall(r'href="events\?q=(dag[^"&]*)"', text)
        found = [parse_filter(urllib.parse.unquote_plus(q), now=datetime.now(UTC)) for q in asked]

        assert found, event["run"]["dag"]
        for one in found:
            assert one.problems == ()
            assert [token.field for token in one.tokens] == ["dag"], one.text


def test_json_answers_are_no_page(auditor, opened):
    answer = auditor.ask(f"newer?name={opened['name']}")

    assert answer.headers["Content-Type"] == "application/json"
    assert set(json.loads(answer.text)) == {"count"}
