"""A reader of some DAGs who knows the names of other DAGs' events."""

from __future__ import annotations

import json

import pytest
from fastapi import HTTPException

from airflow_secure_ml.plugin import access, routes_event, routes_events
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.settings import parse_settings
from tests.services.audit.conftest import ALICE, BOB, chain

EVE = Scope(user="eve", dags=("mine",))
ALL = Scope(user="ada", dags=None)
MINE, THEIRS, NOBODYS = f"{ALICE}:1", f"{BOB}:1", f"{ALICE}:0"


def _run(dag):
    return {"dag": dag, "run": "r", "task": f"{dag}-task", "map": -1, "try": 1, "ti": "x"}


@pytest.fixture
def trail(site, monkeypatch):
    monkeypatch.setattr(access.conf, "get_mandatory_value", lambda *names: "secret")
    site.put(ALICE, 0, chain(ALICE, 5, run=_run("mine")))
    site.put(BOB, 0, chain(BOB, 9, run=_run("theirs"), object={"uri": "file:///secret%_x"}))
    site.run()
    given = {
        "key_system": "local:///nowhere",
        "audit_dir": str(site.path),
        "audit_signer_dir": str(site.signer_path),
    }
    return Trail(parse_settings(given))


def _page(trail, scope, **asked):
    return routes_events.events(scope, trail, **asked).body.decode()


@pytest.mark.parametrize(
    "q",
    [
        "", "show:everything", "dag:theirs", "run:r", "ti:x", "theirs", "%", "_", f"emitter:{BOB}",
        'dag:"mine\\" OR 1=1 --"', "object:file:///secret%_x", "act:o status:ok", "\\",
    ],
)  # fmt: skip
def test_no_filter_shows_what_is_not_theirs(trail, q):
    said = _page(trail, EVE, q=q)

    assert "theirs-task" not in said
    assert "secret%_x</a>" not in said
    assert BOB not in said.replace(f"emitter:{BOB}", "").replace(f"emitter%3A{BOB}", "")


def test_what_is_theirs_is_shown_to_those_who_may(trail):
    assert "mine-task" in _page(trail, EVE)
    assert "theirs-task" in _page(trail, ALL)


@pytest.mark.parametrize("name", [THEIRS, NOBODYS, f"{BOB}:99", ":", f"{ALICE}:²", "0" * 999])
@pytest.mark.parametrize("where", ["event", "older", "newer"])
def test_the_name_of_anothers_event_is_as_good_as_none(trail, where, name):
    with pytest.raises(HTTPException) as refused:
        _page(trail, EVE, **{where: name})

    assert refused.value.status_code == 404
    with pytest.raises(HTTPException) as missing:
        _page(trail, EVE, **{where: f"{'f' * 32}:0"})
    assert missing.value.detail == refused.value.detail


def test_counts_and_neighbours_are_of_their_own(trail):
    count = json.loads(routes_events.newer(EVE, trail, name=MINE, q="show:everything").body)

    assert count == {"count": 2}
    said = routes_event.event(EVE, trail, name=MINE).body.decode()
    assert NOBODYS not in said
    assert f"{ALICE}:2" in said
    assert "Download proof" not in said
