"""Who may read one DAG learns nothing of the others: no event, count, name, neighbour, lineage."""

from __future__ import annotations

import html
import re
import urllib.parse

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from tests.e2e.asking import Asker, events_of, first_of_each, routes, rows_in, values_of
from tests.plugin.questions import SHARED

pytestmark = pytest.mark.airflow
OWN = "billing_churn"
_TOKEN = re.compile(r'name="token" value="[^"]*"')
# Digests whole and in short, numbers, times.
_VARIES = re.compile(r"[0-9a-f]{6}…[0-9a-f]{6}|[0-9a-f]{8,}|[0-9]+")
_TURN = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM",
)
_TURN_HEX = str.maketrans("0123456789abcdef", "123456789abcdef0")


@pytest.fixture(scope="module")
def store(asked_airflow):
    return SqliteAuditReader(asked_airflow.audit_dir / LOG_FILE)


@pytest.fixture(scope="module")
def foreign(store):
    """Events of other DAGs and of none: one for each object, task, key, lease and activity."""
    events = [e for e in events_of(store) if e.get("run", {}).get("dag") != OWN]
    # What two DAGs share is not foreign: another test has it.
    honest = [e for e in events if e.get("object", {}).get("uri") != SHARED]
    found = {}
    for field in ("uri", "task", "key", "lease"):
        for event in first_of_each(honest, field):
            if values_of(event).get("uri", "").isprintable():
                found[values_of(event)["name"]] = event
    for event in honest:
        found.setdefault(event["act"], event)
    chosen = [event for event in found.values() if "<" not in str(event)]
    assert {"object.open", "lease.grant", "coverage.check"} <= {e["act"] for e in chosen}
    return chosen


@pytest.fixture(scope="module")
def theirs(store):
    """Every value of an event that Rita may see."""
    found = {value for event in events_of(store, dag=OWN) for value in values_of(event).values()}
    return found - {"dag"}


@pytest.fixture(scope="module")
def rita(asked_airflow):
    return Asker(asked_airflow, "rita")


def turned(value):
    """Another value of the same form, that nothing in the log has."""
    if re.fullmatch(r"[0-9a-f]{32}:[0-9]+", value):
        emitter, _, seq = value.partition(":")
        return f"{emitter.translate(_TURN_HEX)}:{seq}"
    if re.fullmatch(r"(sha256:)?[0-9a-f]{32,64}", value):
        return value[:-32] + value[-32:].translate(_TURN_HEX)
    scheme, mark, rest = value.partition("://")
    return f"{scheme}://{rest.translate(_TURN)}" if mark else value.translate(_TURN)


def without(text, values):
    """An answer without what was asked for, which it may repeat, and without its form's token."""
    text = _TOKEN.sub("", text)
    said = {
        form
        for value in values
        for form in (
            value, html.escape(value), str(html.escape(value, quote=False)),
            urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value),
            urllib.parse.quote_plus(f'"{value}"'), html.escape(f'"{value}"'),
        )
    }  # fmt: skip
    for form in sorted(said, key=len, reverse=True):
        text = text.replace(form, "•")
    return text


@pytest.mark.parametrize("route", routes("GET"), ids=lambda route: route.path)
def test_what_is_not_theirs_looks_as_if_it_were_not_there(rita, foreign, theirs, route):
    """The same question about a thing of another DAG and about one that never was."""
    asked = set()
    for event in foreign:
        there = dict.fromkeys(route.takes, "") | dict.fromkeys(route.needs, "nothing-here")
        there |= route.values(event)
        # A key that two DAGs use is theirs as well.
        if not theirs & set(there.values()):
            asked.add(tuple(sorted(there.items())))
    for there in sorted(asked):
        # The DAG's own tabs ask Airflow, which has its own answer for a DAG that it knows.
        never = {
            name: value if name in ("dag_id", "kind") else turned(value) for name, value in there
        }

        answers = [rita.ask(route.address(values)) for values in (dict(there), never)]

        assert answers[0].status == answers[1].status, there
        asked_for = {*dict(there).values(), *never.values()} - {""}
        texts = [without(answer.text, asked_for) for answer in answers]
        assert texts[0] == texts[1], there


@pytest.mark.parametrize("route", routes("POST"), ids=lambda route: route.path)
@pytest.mark.parametrize("user", ["rita", "xena"])
def test_a_change_to_what_is_not_theirs_is_refused(asked_airflow, foreign, route, user):
    asker = Asker(asked_airflow, user)
    token = asker.form_token(own_event(asker))
    for event in foreign:
        values = {"form": "json", "q": "", "reason": "because", "text": "because"}
        values |= values_of(event)
        form = {name: values.get(name, "x") for name in route.takes} | {"token": token}

        answer = asker.ask(route.path[1:], form)

        assert answer.status in (403, 404, 422) or theirs_only(answer.text), (route, event["act"])


def theirs_only(text):
    """Whether an answer, an export say, names nothing but their own DAG."""
    return all(word not in text for word in FOREIGN)


# What must not be read where only `OWN` may be: DAGs, places, people, programs.
FOREIGN = (
    "secure_training", "research_export", "archive_restore", "warehouse_report", "hostile_dag",
    "/srv/lake/health", "/srv/models", "/srv/drop", "creds/report", "maria.keller",
    "aisha.rahman", "jonas.brandt",
)  # fmt: skip


def own_event(asker):
    """The address of an event of theirs."""
    return f"event?name={rows_in(asker.ask('events?q=act:run.start').text)[0]}"


def test_their_own_pages_name_nothing_else(rita, store):
    mine = events_of(store, dag=OWN)
    chosen = {event["act"]: event for event in mine}
    size = f"{store.size():,}"
    for route in routes("GET"):
        if "static" in route.path:
            continue
        for event in chosen.values():
            values = {"q": ""} | values_of(event) | route.values(event)
            for given in (values, {name: values[name] for name in route.needs if name in values}):
                if not route.needs <= set(given):
                    continue
                answer = rita.ask(route.address(given))
                said = [word for word in FOREIGN if word in answer.text]
                assert said == [], (route.path, event["act"])
                assert size not in answer.text, route.path
                assert answer.status in (200, 303, 307, 403, 404), route.path


def test_their_list_is_theirs_and_whole(rita, store):
    answers = rita.lists("events?q=show:everything")
    names = [name for answer in answers for name in rows_in(answer.text)]

    assert sorted(names) == sorted(values_of(event)["name"] for event in events_of(store, dag=OWN))


def test_having_each_dag_is_not_having_every_dag(asked_airflow, store):
    """A log holds events of DAGs that are gone, which a right to those of today does not cover."""
    each = Asker(asked_airflow, "each")

    assert each.ask("integrity").status == 403
    gone = values_of(events_of(store, dag="research_export")[0])["name"]
    assert each.ask(f"event?name={gone}").status == 404
    assert "research_export" not in each.ask("events?q=show:everything").text


def test_what_others_do_with_their_data_does_not_show(rita):
    """Two of their files, one of which another DAG reads: their pages are of one form."""
    shared, own = SHARED, SHARED.replace("part-0", "part-1")
    for path in ("object", "lineage", "objects"):
        name = "q" if path == "objects" else "uri"
        answers = [
            rita.ask(f"{path}?{urllib.parse.urlencode({name: uri})}") for uri in (shared, own)
        ]
        forms = [_VARIES.sub("#", answer.text) for answer in answers]

        assert [answer.status for answer in answers] == [200, 200]
        assert forms[0] == forms[1], path
