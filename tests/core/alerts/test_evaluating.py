"""When events are an alert, and what one alert collects."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.core.alerts import counting
from airflow_secure_ml.core.alerts.counting import decode_counts
from airflow_secure_ml.core.alerts.evaluating import Evaluator, fact_of
from airflow_secure_ml.core.audit.event import assemble
from tests.core.alerts.conftest import TIME, leaf, rule

REFUSED = {"s": {"result": "refused"}, "condition": "s"}
HOUR = 3600


def often(at_least=3, timespan="10m", **parts):
    correlation = {
        "type": "event_count",
        "rules": ["counted"],
        "group-by": ["run.dag"],
        "timespan": timespan,
        "condition": {"gte": at_least},
        **parts,
    }
    return rule(REFUSED, correlation=correlation)


def refusal(index, seconds=0, dag="churn", **fields):
    return leaf(index, seconds=seconds, result="refused", run={"dag": dag}, **fields)


def test_enough_within_the_time_are_one_alert_with_its_evidence(rules):
    run = rules(often())

    early = run.see(refusal(0), refusal(1, 60))
    (found,) = run.see(refusal(2, 120))

    assert early == []
    name, values, raised = found
    assert (name, values, raised.part, raised.count) == ("a_rule", ("churn",), 0, 3)
    assert raised.events == tuple(f"{'a1' * 16}:{n}" for n in range(3))
    assert (raised.from_ms, raised.until_ms) == (TIME, TIME + 120_000)
    assert raised.dag == "churn"


def test_events_too_far_apart_are_none(rules):
    run = rules(often())

    assert run.see(refusal(0), refusal(1, 400), refusal(2, 801), refusal(3, 1202)) == []


def test_each_group_is_counted_for_itself(rules):
    run = rules(often())

    found = run.see(*(refusal(n, dag=f"dag{n % 3}") for n in range(8)))

    assert [values for _, values, _ in found] == [("dag0",), ("dag1",)]


def test_what_comes_late_is_counted_where_it_belongs(rules):
    # Of a worker whose spool was shipped after those of others.
    run = rules(often())

    found = run.see(refusal(0), refusal(1, 5000), refusal(2, 5100), refusal(3, 4900))

    assert [raised.events for _, _, raised in found] == [
        tuple(f"{'a1' * 16}:{n}" for n in (3, 1, 2))
    ]


def test_an_open_alert_collects_and_is_told_of_ever_more_seldom(rules):
    run = rules(often(at_least=1))
    told = []

    for minute in range(0, 7 * 60, 10):
        run.now = TIME + minute * 60_000
        told += [(minute, raised) for _, _, raised in run.see(refusal(minute, minute * 60))]

    assert [minute for minute, _ in told] == [0, 60, 180]
    assert len({raised.alert for _, raised in told}) == 1
    assert [raised.part for _, raised in told] == [0, 1, 2]
    assert [raised.count for _, raised in told] == [1, 6, 12]


def test_more_evidence_is_told_although_nothing_new_comes(rules):
    run = rules(often(at_least=1))
    run.see(refusal(0))
    run.see(refusal(1))
    run.now += HOUR * 1000

    (found,) = run.due()

    assert (found[2].part, found[2].events) == (1, (f"{'a1' * 16}:1",))
    assert run.due() == []


def test_a_clock_set_back_silences_no_alert(rules):
    run = rules(often(at_least=1))
    run.see(refusal(0))
    run.now -= 30 * 24 * HOUR * 1000

    (found,) = run.see(refusal(1))

    assert found[2].part == 1


def test_after_its_end_the_next_one_is_another_alert(rules):
    run = rules(often(at_least=1))
    ((_, _, first),) = run.see(refusal(0))
    end = leaf(1, act="alert.close", phase="seen", more={"alert": first.alert})

    ((_, _, second),) = run.see(end, refusal(2))

    assert second.part == 0
    assert second.alert != first.alert


def test_a_task_ends_no_alert(rules):
    run = rules(often(at_least=1))
    ((_, _, first),) = run.see(refusal(0))
    forged = {"act": "alert.close", "phase": "seen", "more": {"alert": first.alert}}

    found = run.see(leaf(1, run={"dag": "churn", "task": "t"}, **forged), refusal(2))

    assert found == []


def test_an_alert_is_never_the_reason_of_an_alert(rules):
    every = rule({"s": {"act|contains": "."}, "condition": "s"})
    run = rules(every)
    acts = ("alert.raise", "alert.close", "alert.acknowledge")

    assert run.see(*(leaf(n, act=act, phase="seen") for n, act in enumerate(acts))) == []
    assert len(run.see(leaf(9))) == 1


def test_values_are_counted_once_however_often_they_come(rules):
    correlation = {
        "type": "value_count",
        "rules": ["counted"],
        "group-by": ["run.dag"],
        "timespan": "1h",
        "condition": {"field": "object.uri", "gte": 3},
    }
    run = rules(rule(REFUSED, correlation=correlation))

    def of(index, uri):
        return refusal(index, index, object={"uri": uri})

    assert run.see(of(0, "a"), of(1, "b"), *(of(n, "b") for n in range(2, 50))) == []
    assert run.see(refusal(60, 60)) == []
    ((_, _, raised),) = run.see(of(61, "c"))
    assert raised.count == 3


def test_a_person_is_counted_by_what_hides_the_name(rules):
    run = rules(often(**{"group-by": ["by"]}))
    one, other = ({"h": digit * 64, "n": 5} for digit in "12")

    found = run.see(*(leaf(n, result="refused", by=(one, other)[n % 2]) for n in range(5)))

    ((_, values, _),) = found
    assert values == ("hidden:" + "1" * 64,)
    assert fact_of(run.rules[0], values, found[0][2]).more["subject"] == "person hidden 11111111"


def test_groups_without_end_take_no_memory_without_end(rules, monkeypatch):
    monkeypatch.setattr(counting, "MAX_GROUPS", 4)
    run = rules(often(at_least=2))
    run.see(refusal(0, dag="open"), refusal(1, dag="open"))

    run.see(*(refusal(n, dag=f"dag{n}") for n in range(2, 500)))

    groups = dict(run.evaluator.counts.each("a_rule"))
    assert len(groups) == 4
    assert groups[("open",)].alert


def test_matches_without_end_take_no_memory_without_end(rules):
    run = rules(often(at_least=5, timespan="1s"))

    run.see(*(refusal(n, n * 10) for n in range(1000)))

    ((_, group),) = run.evaluator.counts.each("a_rule")
    assert len(group.matches) == 10


def test_evidence_without_end_is_counted_and_the_newest_named(rules):
    run = rules(often(at_least=1))
    run.see(refusal(0))
    run.see(*(refusal(n, n) for n in range(1, 400)))
    run.now += 2 * HOUR * 1000

    ((_, _, raised),) = run.due()

    assert raised.count == 399
    assert raised.events == tuple(f"{'a1' * 16}:{n}" for n in range(350, 400))


def test_what_was_counted_goes_through_a_file(rules):
    run = rules(often())
    run.see(refusal(0), refusal(1, 60), refusal(2, dag="other"))
    text = json.dumps(run.evaluator.counts.encode(run.rules))

    again = Evaluator(run.rules, decode_counts(json.loads(text)), lambda leaf, name: None)
    again.take(refusal(3, 120))

    ((_, values, raised),) = again.due(TIME)
    assert (values, raised.count) == (("churn",), 3)


def test_a_rule_may_be_grouped_otherwise_under_its_name(rules):
    """Its old groups once stopped every rule, at each start, for good."""
    run = rules(often(at_least=1))
    run.evaluator.take(refusal(0))
    text = json.dumps(run.evaluator.encode())
    changed = often(at_least=1, **{"group-by": ["run.dag", "object.uri"]})

    again = Evaluator([changed], decode_counts(json.loads(text)), lambda leaf, name: None)
    before = [*again.due(TIME)]
    again.take(refusal(1, object={"uri": "s3://lake/a"}))
    ((_, values, raised),) = again.due(TIME)

    assert before == []
    assert fact_of(changed, values, raised).more["subject"] == "DAG churn, s3://lake/a"


@pytest.mark.parametrize(
    "event", [{}, {"act": 5}, {"act": "object.open", "result": "refused", "time": "now"}], ids=str
)
def test_a_leaf_that_is_no_event_is_passed_over(rules, event):
    run = rules(often(at_least=1))
    broken = leaf(0)
    object.__setattr__(broken, "event", event)

    assert run.see(broken) == []


def test_an_alert_is_an_event_that_the_catalogue_knows(rules):
    run = rules(often())
    ((_, values, raised),) = run.see(*(refusal(n) for n in range(3)))
    fact = fact_of(run.rules[0], values, raised)

    record = assemble(fact, emitter="b0" * 16, seq=0, prev=None, time=TIME, mono=0)

    assert record["run"] == {"dag": "churn"}
    assert record["rule"] == {"id": "a_rule", "digest": run.rules[0].digest}
    assert record["more"]["subject"] == "DAG churn"
    assert record["more"]["about"] == "rule.a_rule"
