"""Alerts about differences: once, by what the trail says, and over when the difference is."""

from __future__ import annotations

from airflow_secure_ml.core.audit.event import RunRef, assemble
from airflow_secure_ml.core.canonical import encode
from airflow_secure_ml.services.coverage import AirflowTry, Judged
from airflow_secure_ml.services.coverage_alerts import (
    NAMES_AN_EVENT,
    alerts_due,
    emitter_alerts,
    still_raised,
)


def judged(ti, verdict, run="r1", **fields):
    attempt = AirflowTry(ti=ti, dag="d", run=run, task="t", **fields)
    return Judged(attempt=attempt, verdict=verdict, because="Airflow: failed")


def as_event(fact):
    return assemble(fact, emitter="11" * 16, seq=1, prev="0" * 64, time=0, mono=0)


def said(facts):
    return [(f.act, f.more["about"], f.run.run, f.more["tis"]) for f in facts]


def raised(*facts):
    return still_raised(as_event(fact) for fact in facts)


def test_a_difference_is_alerted_about_once():
    found = [judged("a", "silent"), judged("b", "recorded")]
    first = list(alerts_due(found, {}))

    second = list(alerts_due(found, raised(*first)))

    assert said(first) == [("alert.raise", "coverage.silent", "r1", ["a"])]
    assert second == []


def test_there_is_one_alert_for_a_kind_in_a_run():
    found = [
        judged("a", "cut"),
        judged("b", "cut"),
        judged("c", "silent"),
        judged("d", "cut", run="r2"),
    ]

    assert said(alerts_due(found, {})) == [
        ("alert.raise", "coverage.cut", "r1", ["a", "b"]),
        ("alert.raise", "coverage.cut", "r2", ["d"]),
        ("alert.raise", "coverage.silent", "r1", ["c"]),
    ]


def test_an_alert_is_closed_when_the_difference_went_away():
    first = list(alerts_due([judged("a", "silent"), judged("b", "silent")], {}))

    over = list(alerts_due([judged("a", "recorded"), judged("b", "silent")], raised(*first)))

    assert said(over) == [("alert.close", "coverage.silent", "r1", ["a"])]
    assert raised(*first, *over)["coverage.silent"] == {"b": RunRef(dag="d", run="r1")}


def test_a_difference_that_comes_back_is_alerted_about_again():
    first = list(alerts_due([judged("a", "silent")], {}))
    over = list(alerts_due([judged("a", "recorded")], raised(*first)))

    again = list(alerts_due([judged("a", "silent")], raised(*first, *over)))

    assert said(again) == [("alert.raise", "coverage.silent", "r1", ["a"])]


def test_a_try_that_is_removed_from_airflow_closes_nothing():
    first = list(alerts_due([judged("a", "cut")], {}))

    later = list(alerts_due([judged("a", "unknown")], raised(*first)))

    assert said(later) == [("alert.raise", "coverage.unknown", "r1", ["a"])]


def test_a_try_that_runs_again_closes_nothing():
    first = list(alerts_due([judged("a", "cut")], {}))

    assert list(alerts_due([judged("a", "open")], raised(*first))) == []


def test_no_alert_is_larger_than_an_event():
    name = "n" * 250
    found = [
        judged(f"019ab2c4-7d10-7b3e-9a55-{number:012}", "silent", number=number, map_index=number)
        for number in range(2 * NAMES_AN_EVENT + 1)
    ]
    facts = list(alerts_due(found, {}))
    long = judged("x", "silent")
    long = Judged(
        attempt=AirflowTry(ti="x", dag=name, run=name, task=name),
        verdict="silent",
        because="b" * 5000,
    )

    sizes = [len(encode(as_event(fact))) for fact in [*facts, *alerts_due([long] * 3, {})]]

    assert [len(fact.more["tis"]) for fact in facts] == [NAMES_AN_EVENT, NAMES_AN_EVENT, 1]
    assert max(sizes) < 32768


def test_alerts_of_others_are_none_of_these():
    other = {"act": "alert.raise", "more": {"about": "connection", "tis": ["a"]}}

    assert still_raised([other, {"act": "alert.raise"}]) == {}


def test_an_emitter_that_ended_badly_is_named_once():
    bad = {"aa": "cut", "bb": "gap", "cc": "cut"}
    first = list(emitter_alerts(bad, {}))

    second = list(emitter_alerts({**bad, "dd": "cut"}, raised(*first)))

    assert [(f.more["about"], f.more["emitters"]) for f in first] == [
        ("emitter.cut", ["aa", "cc"]),
        ("emitter.gap", ["bb"]),
    ]
    assert [(f.more["about"], f.more["emitters"]) for f in second] == [("emitter.cut", ["dd"])]
