"""Who did what, from rows that Airflow wrote; nothing secret comes along."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.event import RunRef, assemble
from airflow_secure_ml.core.canonical import decode, encode
from airflow_secure_ml.services.airflow_acts import (
    LogRow,
    RunRow,
    act_of_row,
    act_of_run,
    new_acts,
    seen_row,
)

SECRET = "hunter2"


def row(event, extra=None, **fields):
    text = extra if isinstance(extra, str) else json.dumps(extra or {})
    return LogRow(id=7, at_ms=1000, event=event, owner="ann", extra=text, **fields)


def as_event(fact):
    return assemble(fact, emitter="11" * 16, seq=1, prev="0" * 64, time=0, mono=0)


REQUESTS = {
    "a state set by hand": (
        row("patch_task_instance", {"new_state": "success", "method": "PATCH", "map_index": "3"},
            dag="d", run="r", task="t"),
        {"action": "patch_task_instance", "method": "PATCH", "state": "success"},
        RunRef(dag="d", run="r", task="t", map_index=3),
    ),
    "a clear": (
        row("post_clear_task_instances", {"dry_run": False, "method": "POST"}, dag="d"),
        {"action": "post_clear_task_instances", "method": "POST"},
        RunRef(dag="d", run=""),
    ),
    "a connection": (
        row("patch_connection", {"connection_id": "db", "password": SECRET, "method": "PATCH"}),
        {"action": "patch_connection", "method": "PATCH", "resource": "connection db"},
        None,
    ),
    "a variable": (
        row("post_variable", {"key": "limit", "value": SECRET, "method": "POST"}),
        {"action": "post_variable", "method": "POST", "resource": "variable limit"},
        None,
    ),
    "a pool": (
        row("delete_pool", {"pool_name": "gpu", "method": "DELETE"}),
        {"action": "delete_pool", "method": "DELETE", "resource": "pool gpu"},
        None,
    ),
    "many variables": (
        row("bulk_variables", {"method": "PATCH", "actions": [
            {"action": "create", "entities": [{"key": "a", "value": SECRET}, {"key": "b"}]},
            {"action": "delete", "entities": ["c"]},
        ]}),
        {"action": "bulk_variables", "method": "PATCH", "resource": "variable a, b, c"},
        None,
    ),
    "a command": (
        row("cli_connections_add", {"host_name": "h", "full_command": f"['airflow', '{SECRET}']"}),
        {"action": "cli_connections_add"},
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "more", "run"), REQUESTS.values(), ids=REQUESTS)
def test_what_a_person_did_becomes_a_fact(given, more, run):
    fact = act_of_row(given)

    assert {name: found for name, found in fact.more.items() if found is not None} == {
        **more,
        "log_id": 7,
        "at": 1000,
    }
    assert (fact.act, fact.phase, fact.result) == ("user.act", "seen", "unknown")
    assert (fact.by, fact.run) == ("ann", run)
    assert SECRET not in repr(fact)


@pytest.mark.parametrize(
    "event", ["running", "success", "failed", "heartbeat timeout", "state mismatch", "paused"]
)
def test_what_airflow_did_itself_is_nobodys_act(event):
    assert act_of_row(row(event, {"host_name": "h"}, dag="d", run="r", task="t")) is None


def test_a_triggered_run_names_its_run_and_its_user():
    fact = act_of_run(RunRow(id=5, at_ms=9, dag="d", run="manual__1", by="ann", how="ui"))

    event = as_event(fact)
    assert event["run"] == {"dag": "d", "run": "manual__1"}
    assert event["more"] == {"action": "run_triggered", "method": "ui", "dag_run_id": 5, "at": 9}
    assert event["by"] == "ann"


def test_a_row_becomes_an_act_once():
    known = set()
    fact = act_of_row(row("post_pool", {"method": "POST"}))

    assert list(new_acts([fact, None, fact], known)) == [fact]
    assert list(new_acts([fact], known)) == []


def test_a_number_that_airflow_gave_again_is_another_act():
    first = act_of_row(row("post_pool", {"method": "POST"}))
    again = act_of_row(LogRow(id=7, at_ms=2000, event="cli_x"))

    assert list(new_acts([first, again], set())) == [first, again]


def test_the_trail_remembers_which_row_an_act_was_read_from():
    fact = act_of_row(row("post_pool", {"method": "POST"}))

    assert seen_row(as_event(fact)["more"]) == ("log_id", 7, 1000)
    assert seen_row({"action": "read", "method": "GET"}) is None


@given(
    st.text(max_size=80),
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(
                st.sampled_from(["method", "actions", "entities", "key", "map_index", "state"]),
                inner,
            ),
        ).map(json.dumps),
    ),
    st.text(),
    st.text(max_size=300),
)  # fmt: skip
def test_whatever_a_row_holds_an_event_can_be_made_of_it(event, extra, owner, name):
    given = LogRow(
        id=1, at_ms=1, event=event, owner=owner, extra=extra, dag=name, run=name, task=name
    )

    fact = act_of_row(given)

    if fact is not None:
        record = as_event(fact)
        assert decode(encode(record)) == record
