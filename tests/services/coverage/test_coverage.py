"""What became of a try: rows of Airflow and events of the trail, as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.services.coverage import (
    FINAL,
    VERDICTS,
    WAITING,
    AirflowTry,
    TrailTry,
    cover,
    fold,
    is_waiting,
    judge,
    judge_unknown,
    ti_digest,
)

VECTOR = Path(__file__).parents[2] / "vectors" / "v1" / "coverage" / "ti_digest.json"
TI = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"
E1, E2 = "11" * 16, "22" * 16
NOW, SETTLE = 1_000_000, 15_000
WHOLE = {E1: "whole"}

OPENED = ("emitter.open", "seen")
STARTED = ("task.start", "seen")
SECURED = ("task.secure", "intent")
DONE = ("task.secure", "outcome")
ENDED = ("task.end", "seen")
CLOSED = ("emitter.close", "seen")
FULL = (OPENED, STARTED, ENDED, CLOSED)
FULL_SECURED = (OPENED, STARTED, SECURED, DONE, ENDED, CLOSED)


def attempt(state="success", **fields):
    given = {"host": "w1", "start_ms": 100, "end_ms": 200, "noted": ("running", state)}
    return AirflowTry(ti=TI, dag="d", run="r", task="t", state=state, **given | fields)


def events(*told, emitter=E1):
    """Events in order; an outcome answers the intent of its activity."""
    names = {}
    for seq, (act, phase) in enumerate(told):
        event = {"act": act, "phase": phase, "emitter": emitter, "seq": seq}
        if phase == "intent":
            names[act] = f"{emitter}:{seq}"
        elif phase == "outcome":
            event["of"] = names.get(act)
        yield event


def verdict(row, told=(), ends=WHOLE, declared=False, now=NOW):
    found = judge(row, fold(told, ends), is_declared=declared, now_ms=now, settle_ms=SETTLE)
    return found.verdict, found.because


ROWS = {
    "a task that ran and said all": (attempt(), events(*FULL), "recorded"),
    "a task that failed and said so": (attempt("failed"), events(*FULL), "recorded"),
    "a secured task without a listener": (
        attempt(),
        events(OPENED, SECURED, DONE, CLOSED),
        "recorded",
    ),
    "a task that skipped itself": (attempt("skipped"), events(*FULL), "recorded"),
    "a task that the trail does not have": (attempt(), (), "silent"),
    "a failed task that the trail does not have": (attempt("failed"), (), "silent"),
    "a killed task": (attempt("failed"), events(OPENED, STARTED, SECURED), "cut"),
    "a task whose last event was dropped": (attempt(), events(*FULL[:-1]), "cut"),
    "a task that closed and did not say how it ended": (
        attempt(),
        events(OPENED, STARTED, CLOSED),
        "cut",
    ),
    "an act without an outcome": (
        attempt(),
        events(OPENED, STARTED, ("object.publish", "intent"), ENDED, CLOSED),
        "cut",
    ),
    "a beginning that is missing": (attempt(), events(OPENED, CLOSED), "cut"),
    "skipped by the scheduler": (
        attempt("skipped", host="", end_ms=100, noted=()),
        (),
        "not_started",
    ),
    "upstream failed": (attempt("upstream_failed", host="", noted=()), (), "not_started"),
    "removed": (attempt("removed", host="", noted=()), (), "not_started"),
    "ended without a start": (
        attempt("skipped", host="", start_ms=None, end_ms=None, noted=()),
        (),
        "not_started",
    ),
    "upstream failed, with an earlier try's host": (
        attempt("upstream_failed", noted=()),
        (),
        "not_started",
    ),
    "skipped by the scheduler, with an earlier try's host": (
        attempt("skipped", end_ms=100, noted=()),
        (),
        "not_started",
    ),
    "an operator that the scheduler runs itself": (
        attempt(host="", end_ms=100, noted=()),
        (),
        "not_started",
    ),
    "failed in the queue": (attempt("failed", host="", noted=()), (), "not_started"),
    "skipped in the body, and silent": (attempt("skipped"), (), "silent"),
    "removed while it ran": (attempt("removed"), (), "silent"),
    "still running": (attempt("running", end_ms=None), events(OPENED, STARTED), "open"),
    "deferred": (attempt("deferred", end_ms=None), events(OPENED, STARTED, CLOSED), "open"),
    "running and silent": (attempt("running", end_ms=None), (), "open"),
    "ended just now": (attempt(end_ms=NOW - 1), (), "open"),
}


@pytest.mark.parametrize(("row", "told", "expected"), ROWS.values(), ids=ROWS)
def test_the_verdict_on_a_try(row, told, expected):
    found, _ = verdict(row, tuple(told))

    assert found == expected


@pytest.mark.parametrize(
    ("told", "declared", "expected"),
    [
        (FULL_SECURED, True, "recorded"),
        (FULL_SECURED, False, "recorded"),
        (FULL, False, "recorded"),
        (FULL, True, "unsecured"),
        (FULL[:2], True, "cut"),
        ((), True, "silent"),
    ],
    ids=["secured as declared", "secured anyway", "plain", "declared", "declared and cut", "none"],
)
def test_a_declared_task_must_have_been_secured(told, declared, expected):
    found, _ = verdict(attempt(), tuple(events(*told)), declared=declared)

    assert found == expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [("whole", "recorded"), ("cut", "cut"), ("gap", "cut"), ("torn", "cut")],
)
def test_a_close_does_not_hide_how_the_sequencer_found_the_emitter(end, expected):
    found, because = verdict(attempt(), tuple(events(*FULL)), ends={E1: end})

    assert found == expected
    assert (E1 in because) == (expected == "cut")


def test_every_process_of_a_try_counts():
    guardian = [
        {"act": act, "phase": "seen", "emitter": E2, "seq": seq}
        for seq, act in enumerate(("emitter.open", "scratch.shred"))
    ]

    found, because = verdict(attempt(), [*events(*FULL), *guardian])

    assert found == "cut"
    assert E2 in because
    assert E1 not in because


def test_a_resumed_task_is_recorded_by_both_its_processes():
    first = events(OPENED, STARTED, CLOSED)
    second = events(*FULL, emitter=E2)

    found, _ = verdict(attempt(), [*first, *second], ends={E1: "whole", E2: "whole"})

    assert found == "recorded"


def test_an_outcome_of_another_process_answers_an_intent():
    intent = [*events(OPENED, STARTED, ("scratch.shred", "intent"), ENDED, CLOSED)]
    outcome = {"act": "scratch.shred", "phase": "outcome", "emitter": E2, "seq": 1, "of": f"{E1}:2"}

    assert verdict(attempt(), intent)[0] == "cut"
    assert verdict(attempt(), [*intent, outcome])[0] == "recorded"


def test_the_reason_names_what_airflow_says():
    row = attempt("failed", noted=("running", "heartbeat timeout", "failed"))

    _, because = verdict(row, tuple(events(OPENED, STARTED)), ends={E1: "cut"})

    assert because == (
        f"Airflow: failed on w1; heartbeat timeout; emitter {E1} was cut off; "
        "its end is not recorded"
    )


@pytest.mark.parametrize("state", sorted(WAITING))
def test_the_place_of_the_next_try_is_no_try(state):
    assert is_waiting(attempt(state))


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_reschedule", "restarting"])
def test_a_try_under_way_is_open_whatever_is_missing(state):
    assert not is_waiting(attempt(state))
    assert verdict(attempt(state, end_ms=None), ())[0] == "open"


def test_a_period_is_counted_by_verdict():
    judged = [
        judge(attempt(), fold(events(*FULL), WHOLE), is_declared=False, now_ms=NOW, settle_ms=0),
        judge(attempt(), TrailTry(), is_declared=False, now_ms=NOW, settle_ms=0),
        judge_unknown(AirflowTry(ti="invented", dag="d", run="r", task="t")),
    ]

    found = cover(1, 2, judged)

    assert found.counts == dict.fromkeys(VERDICTS, 0) | {"recorded": 1, "silent": 1, "unknown": 1}
    assert [each.verdict for each in found.differences] == ["silent", "unknown"]
    # Of what Airflow has alone: what it does not have anybody can add to a trail.
    assert found.ti_digest == ti_digest([TI])


def test_the_digest_is_the_one_of_the_vector():
    for case in json.loads(VECTOR.read_text())["cases"]:
        assert ti_digest(case["tis"]) == case["ti_digest"], case["about"]


@given(
    st.sampled_from(sorted(FINAL | {"running", "deferred", "restarting", "anything"})),
    st.booleans(),
    st.lists(st.sampled_from([OPENED, STARTED, SECURED, DONE, ENDED, CLOSED])),
    st.sampled_from(["whole", "cut", "gap", "torn"]),
    st.booleans(),
)
def test_nothing_is_recorded_that_lacks_an_event(state, ran, told, end, declared):
    row = attempt(state, host="w1" if ran else "", noted=("running",) if ran else ())

    found, _ = verdict(row, list(events(*told)), ends={E1: end}, declared=declared)

    assert found in VERDICTS
    if found == "recorded":
        assert {ENDED, DONE} & set(told)
        assert not (OPENED in told and (CLOSED not in told or end != "whole"))
        assert not declared or {SECURED, DONE} & set(told)
