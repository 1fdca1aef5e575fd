"""Sealed XCom under a real scheduler: tasks see values, everything else ciphertext."""

from __future__ import annotations

import sqlite3

import pytest

pytestmark = pytest.mark.airflow

RUN = "sealed-1"
CANARY = b"canary-" + b"c9d41e"
# Airflow sets what it writes itself in clear: addresses of pages, and names of tasks to skip.
CLEAR = ("skipmixin_key", "_link_")


@pytest.fixture(scope="module")
def states(airflow):
    airflow.start("sealed", RUN)
    return airflow.wait("sealed", RUN)


def rows(airflow, dag):
    with sqlite3.connect(f"file:{airflow.home}/airflow.db?mode=ro", uri=True) as database:
        found = database.execute(
            "SELECT task_id, key, map_index, value FROM xcom WHERE dag_id = ?", [dag]
        )
        return found.fetchall()


def test_every_way_to_move_a_value_works(states):
    skipped = {at for at, state in states.items() if state == "skipped"}

    assert {at for at, state in states.items() if state != "success"} == skipped
    assert skipped == {("not_taken", -1), ("cut_off", -1)}
    assert len(states) > 30


def test_the_database_holds_no_value(airflow, states):
    found = rows(airflow, "sealed")
    sealed = [value for _, key, _, value in found if not key.startswith(CLEAR)]

    assert len(sealed) > 20
    for value in sealed:
        assert '"secure_ml_xcom"' in value or value.startswith('"file://')


def test_what_the_scheduler_reads_is_clear(airflow, states):
    found = {task: value for task, key, _, value in rows(airflow, "sealed") if key == CLEAR[0]}

    assert set(found) == {"branch", "short_circuit"}
    assert '"taken"' in found["branch"]


def test_the_canary_is_nowhere_on_disk(airflow, states):
    # Rendered fields in the database, logs, the trail, objects.
    files = [
        path for path in [*airflow.home.rglob("*"), *airflow.objects.rglob("*")] if path.is_file()
    ]

    assert len(files) > 20
    assert [str(path) for path in files if CANARY in path.read_bytes()] == []


def test_fields_that_held_no_value_are_shown(airflow, states):
    path = f"/dags/sealed/dagRuns/{RUN}/taskInstances"

    assert airflow.api("GET", f"{path}/check")["rendered_fields"] == {
        "op_args": "sealed: it may hold an XCom value",
        "op_kwargs": {},
        "templates_dict": None,
    }
    assert "printf" in str(airflow.api("GET", f"{path}/no_value")["rendered_fields"])


def test_a_large_value_lies_in_the_store(airflow, states):
    (file,) = [path for path in airflow.objects.rglob("*") if path.is_file()]

    assert file.parent.name == "large"
    assert b'"secure_ml_xcom"' in file.read_bytes()


def test_the_api_shows_ciphertext(airflow, states):
    shown = airflow.xcom("sealed", RUN, "make")

    assert "secure_ml_xcom" in str(shown)
    assert CANARY.decode() not in str(shown)


def test_a_link_of_an_operator_still_leads_to_its_run(airflow, states):
    path = f"/dags/sealed/dagRuns/{RUN}/taskInstances/trigger/links"

    assert "child" in str(airflow.api("GET", path))


def test_each_write_and_read_is_in_the_trail(airflow, own_airflow, states):
    def acts(act, phase, **more):
        found = airflow.events(acts=(act,), run=RUN)
        return [
            event
            for event in found
            if event["phase"] == phase and event["more"].items() >= more.items()
        ]

    own_airflow.until(
        lambda: len(acts("xcom.read", "outcome", name="return_value", task="make")) >= 3,
        own_airflow.TRAIL_S,
        lambda: str(airflow.events(acts=("xcom.read",), run=RUN))[:2000],
    )

    written = acts("xcom.write", "outcome", name="return_value")
    readers = {event["run"]["task"] for event in acts("xcom.read", "outcome", task="make")}
    assert {event["run"]["task"] for event in written} >= {"make", "large", "measure", "write"}
    assert all(event["result"] == "ok" and event["run"]["ti"] for event in written)
    assert readers >= {"check", "templated", "asynchronous"}


def test_one_key_serves_the_dag(airflow, states):
    headers = list((airflow.home / "secure_ml" / "xcom_keys").glob("sealed-*/_asml/*.asmk"))

    assert len(headers) == 1


def test_another_dag_reads_it_and_the_event_says_whose(airflow, own_airflow, states):
    airflow.start("other", "other-1")

    assert set(airflow.wait("other", "other-1").values()) == {"success"}
    own_airflow.until(
        lambda: [e for e in airflow.events(acts=("xcom.read",), run="other-1") if e.get("object")],
        own_airflow.TRAIL_S,
        lambda: str(airflow.events(run="other-1"))[:2000],
    )
    event = airflow.events(acts=("xcom.read",), run="other-1")[0]
    assert event["object"] == {"uri": f"xcom:sealed/{RUN}/make"}


def test_moved_and_replaced_values_stop_the_task_that_takes_them(airflow, own_airflow):
    run = "attacked-1"
    airflow.start("attacked", run)
    makers = [("mine", -1), ("theirs", -1), ("plain", -1)]
    own_airflow.until(
        lambda: all(airflow.states("attacked", run).get(at) == "success" for at in makers),
        own_airflow.RUN_S,
        lambda: str(airflow.states("attacked", run)),
    )

    with sqlite3.connect(airflow.home / "airflow.db", timeout=60) as database:
        database.execute(
            "UPDATE xcom SET value = (SELECT value FROM xcom WHERE task_id = 'theirs' AND run_id "
            "= ?) WHERE task_id = 'mine' AND run_id = ?",
            [run, run],
        )
    airflow.api(
        "PATCH",
        f"/dags/attacked/dagRuns/{run}/taskInstances/plain/xcomEntries/return_value",
        {"value": "from the API", "map_index": -1},
    )
    (airflow.data / "attacked").touch()
    states = airflow.wait("attacked", run)

    assert (states["take_moved", -1], states["take_plain", -1]) == ("failed", "failed")
    tries = {
        t["task_id"]: t["try_number"]
        for t in airflow.instances("attacked", run)
        if t["task_id"].startswith("take")
    }
    assert tries == {"take_moved": 1, "take_plain": 1}
    own_airflow.until(
        lambda: {"context_differs", "not_sealed"} <= _whys(airflow, run),
        own_airflow.TRAIL_S,
        lambda: str(_whys(airflow, run)),
    )


def _whys(airflow, run):
    return {event.get("why") for event in airflow.events(acts=("xcom.read",), run=run)}
