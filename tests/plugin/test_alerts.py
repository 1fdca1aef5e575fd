"""Alerts from the trail: what is open, what somebody said, and what a task cannot say."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin import alert_views
from airflow_secure_ml.services.alert_states import ACKNOWLEDGED, CLOSED, OPEN, alert_states

TIME = 1_795_316_400_000
RULE = {
    "about": "rule.data_changed",
    "subject": "s3://lake/a",
    "because": "Data are not what was signed or sealed",
    "level": "high",
    "alert": "a" * 32,
    "part": 0,
    "events": ["e:1", "e:2"],
    "count": 2,
    "from_ms": TIME - 5000,
    "until_ms": TIME - 1000,
}
TASK = {"dag": "churn", "run": "r", "task": "train"}


def said(index, act="alert.raise", more=(), **fields):
    event = {"v": 1, "emitter": "e" * 32, "seq": index, "time": TIME + index, "act": act}
    event |= {"phase": "seen", "result": "ok", "more": dict(more), **fields}
    return Leaf(index=index, data=b"", hash=bytes(32), event=event)


def name(index):
    return f"{'e' * 32}:{index}"


def one(*leaves):
    (found,) = alert_states(leaves)
    return found


def test_an_alert_is_open_until_somebody_says_otherwise():
    found = one(said(3, more=RULE, run={"dag": "churn"}))

    assert (found.status, found.level, found.dag, found.rule) == (
        OPEN, "high", "churn", "data_changed",
    )  # fmt: skip
    assert (found.count, found.events, found.name) == (2, ["e:1", "e:2"], name(3))


def test_what_was_raised_twice_is_one():
    found = one(said(3, more=RULE), said(4, more=RULE))

    assert (found.name, found.count) == (name(3), 2)


def test_more_evidence_joins_the_alert():
    later = {**RULE, "part": 1, "events": ["e:9"], "count": 7, "until_ms": TIME + 9}

    found = one(said(3, more=RULE), said(4, more=later))

    assert (found.count, found.events) == (9, ["e:1", "e:2", "e:9"])
    assert (found.from_ms, found.until_ms) == (TIME - 5000, TIME + 9)


@pytest.mark.parametrize(
    ("act", "status"), [("alert.acknowledge", ACKNOWLEDGED), ("alert.close", CLOSED)]
)
def test_an_answer_is_for_the_alert_it_names(act, status):
    answer = said(5, act, {"alert": "a" * 32, "note": {"h": "b" * 64, "n": 9}}, by={"h": "c"})
    other = {**RULE, "alert": "b" * 32, "subject": "s3://lake/b"}

    found = {
        each.alert: each for each in alert_states([said(3, more=RULE), said(4, more=other), answer])
    }

    assert found["a" * 32].status == status
    assert found["b" * 32].status == OPEN
    (kept,) = found["a" * 32].answers
    assert (kept.event, kept.is_person) == (name(5), True)


def test_a_closed_alert_is_not_opened_by_an_acknowledgement():
    found = one(
        said(3, more=RULE),
        said(4, "alert.close", {"alert": "a" * 32}, by={"h": "c"}),
        said(5, "alert.acknowledge", {"alert": "a" * 32}, by={"h": "c"}),
    )

    assert found.status == CLOSED


def test_a_task_answers_no_alert_and_adds_nothing_to_one():
    forged = {**RULE, "part": 1, "events": ["x:1"], "subject": "nothing here"}
    found = alert_states(
        [
            said(3, more=RULE),
            said(4, "alert.close", {"alert": "a" * 32}, run=TASK),
            said(5, more=forged, run=TASK),
        ]
    )

    assert {each.subject: each.status for each in found} == {
        "nothing here": OPEN,
        "s3://lake/a": OPEN,
    }
    assert len(found) == 2


def test_an_alert_of_coverage_is_over_with_the_last_of_its_tries():
    raised = {"about": "coverage.silent", "subject": "a try 1, b try 1", "tis": ["1", "2"]}
    half = said(5, "alert.close", {"about": "coverage.silent", "subject": "a", "tis": ["1"]})
    rest = said(6, "alert.close", {"about": "coverage.silent", "subject": "b", "tis": ["2"]})

    assert one(said(3, more=raised), half).status == OPEN
    found = one(said(3, more=raised), half, rest)
    assert found.status == CLOSED
    assert [answer.is_person for answer in found.answers] == [False]


def test_a_person_closes_an_alert_that_no_rule_raised():
    raised = said(3, more={"about": "spool", "subject": "worker-1", "because": "much waits"})

    found = one(raised, said(4, "alert.close", {"about": "spool"}, of=name(3), by={"h": "c"}))

    assert found.status == CLOSED


def test_a_check_of_its_own_closes_what_it_raised_and_nothing_else():
    raised = said(3, more={"about": "spool", "subject": "worker-1"})
    end = said(4, "alert.close", {"about": "spool", "subject": "worker-1"})
    others = said(5, "alert.close", {"about": "spool", "subject": "worker-2"})

    assert one(raised, others).status == OPEN
    assert one(raised, end).status == CLOSED


def test_what_needs_somebody_comes_first():
    leaves = [
        said(n, more={**RULE, "alert": f"{n:032}", "level": level})
        for n, level in enumerate(LEVELS)
    ]
    leaves.append(said(9, "alert.acknowledge", {"alert": f"{4:032}"}, by={"h": "c"}))

    found = alert_states(leaves)

    assert [each.level for each in found] == ["high", "medium", "low", "informational", "critical"]
    assert found[-1].status == ACKNOWLEDGED


@pytest.mark.parametrize(
    "more",
    [
        {"level": "worst", "part": "x", "events": 5, "count": -(10**30), "from_ms": 2**70},
        {"alert": 5, "tis": [1, {}], "subject": {"h": "b" * 64, "n": 5}},
        {},
    ],
    ids=["types", "hidden", "empty"],
)
def test_an_edited_log_is_shown_as_it_is(more):
    found = one(said(3, more=more))

    row = alert_views.alert_row(found)
    assert found.level == "medium"
    assert row.title


def test_a_rule_says_how_many_of_its_alerts_are_open():
    from airflow_secure_ml.adapters.alert_rules import shipped_rules

    other = {**RULE, "alert": "b" * 32}
    end = said(5, "alert.acknowledge", {"alert": "b" * 32}, by={"h": "c"})
    alerts = alert_states([said(3, more=RULE), said(4, more=other), end])

    found = alert_views.rules_said(shipped_rules(), alerts)

    assert {rule["name"]: rule["open"] for rule in found if rule["open"]} == {"data_changed": 1}
    assert found[0]["level"].word == "critical"


def test_hidden_characters_of_a_subject_are_shown():
    found = one(said(3, more={**RULE, "subject": "a\u202eb\x1b[31m", "because": "x\u200by"}))

    row = alert_views.alert_row(found)

    assert row.subject == "a\\u202eb\\u001b[31m"
    assert row.title == "x\\u200by"


def test_the_list_is_narrowed_by_what_its_links_say():
    alerts = alert_states(
        [said(n, more={**RULE, "alert": f"{n:032}", "level": LEVELS[n % 2 + 2]}) for n in range(5)]
    )

    found = alert_views.choices(alerts, OPEN, "high")

    assert [(c.label, c.count, c.chosen) for c in found["status"]] == [
        ("open", "2", True), ("acknowledged", "", False), ("closed", "", False),
    ]  # fmt: skip
    assert [(c.label, c.count, c.chosen) for c in found["level"]] == [
        ("high", "2", True), ("medium", "3", False),
    ]  # fmt: skip
    assert found["level"][0].href == "alerts?status=open"
    assert len(alert_views.chosen(alerts, OPEN, "high")) == 2
