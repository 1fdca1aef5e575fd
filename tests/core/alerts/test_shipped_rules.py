"""Each rule that comes with the package: what makes it an alert, and what does not."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.alert_rules import shipped_rules
from airflow_secure_ml.core.alerts.matching import All, AnyOf, FieldTest, Not, Presence
from airflow_secure_ml.core.alerts.taxonomy import DERIVED, field_kinds
from airflow_secure_ml.core.audit.event import Fact, assemble
from tests.core.alerts.conftest import TIME, Rules, leaf

RULES = {rule.name: rule for rule in shipped_rules()}
ONE, OTHER = ({"h": digit * 64, "n": 5} for digit in "12")
RUN = {"dag": "churn", "run": "r", "task": "train"}
OBJECT = {"uri": "s3://lake/a.csv", "name": "a"}
KEY = {"system": "local", "name": "data", "version": "3"}
DENIED = {"result": "refused", "why": "access_denied"}


def event(act, seconds=0, *, phase="seen", result="ok", times=1, step=0, **fields):
    """The same event some times, so many seconds apart."""
    return [
        {"act": act, "seconds": seconds + n * step, "phase": phase, "result": result, **fields}
        for n in range(times)
    ]


def outcome(act, seconds=0, **fields):
    return event(act, seconds, phase="outcome", **fields)


def refused(act, why, **fields):
    return outcome(act, result="refused", why=why, **fields)


# Name: what fires it, what does not.
CASES = {
    "refusals_in_a_row": (
        refused("task.secure", "digest_differs", run=RUN, times=5, step=600),
        refused("task.secure", "digest_differs", run=RUN, times=5, step=1200)
        + refused("object.open", "digest_differs", run=RUN, times=9)
        + [each for n in range(9) for each in refused("task.secure", "bug", run={"dag": f"d{n}"})],
    ),
    "read_outside_a_task": (
        outcome("object.open", by=ONE, object=OBJECT),
        outcome("object.open", run=RUN, object=OBJECT)
        + refused("object.open", "key_missing", by=ONE)
        + event("object.open", phase="intent", result=None, by=ONE),
    ),
    "new_dag_for_key": (
        outcome("object.open", run=RUN, key=KEY, derived={"derived.is_new_dag_for_key": True}),
        outcome("object.open", run=RUN, key=KEY, derived={"derived.is_new_dag_for_key": False})
        + outcome("object.open", run=RUN, key=KEY)
        + outcome("key.rotate", key=KEY, derived={"derived.is_new_dag_for_key": True}),
    ),
    "disabled_key_used": (
        refused("object.open", "key_disabled", run=RUN, object=OBJECT),
        refused("object.open", "key_missing", run=RUN) + outcome("key.disable", key=KEY),
    ),
    "large_export": (
        outcome("trail.export", by=ONE, more={"format": "evidence", "events": 10_000}),
        outcome("trail.export", by=ONE, more={"format": "proof", "events": 1})
        + outcome("trail.export", by=ONE, more={"format": "jsonl", "events": 9999})
        + event("trail.export", phase="intent", result=None, more={"format": "tlog-tiles"}),
    ),
    "trail_lag": (
        event("trail.beat", times=3, step=300, more={"waiting": 4, "waiting_bytes": 2 << 20}),
        event("trail.beat", times=2, step=300, more={"waiting": 4, "waiting_bytes": 2 << 20})
        + event("trail.beat", times=9, step=300, more={"waiting": 4, "waiting_bytes": 5000}),
    ),
    "coverage_drop": (
        event("coverage.check", times=3, step=300, more={"silent": 1, "unsecured": 0}),
        event("coverage.check", times=2, step=300, more={"silent": 1, "unsecured": 0})
        + event("coverage.check", times=9, step=300, more={"silent": 0, "unsecured": 0, "cut": 4}),
    ),
    "clock_jumped": (
        outcome("object.open", run=RUN, derived={"derived.clock_jump_ms": 60_000}),
        outcome("object.open", run=RUN, derived={"derived.clock_jump_ms": 59_999})
        + outcome("object.open", run=RUN),
    ),
    "plain_where_sealed": (
        refused("rule.decide", "not_sealed", run=RUN, object=OBJECT, more={"action": "write"}),
        refused("rule.decide", "rule_denied", run=RUN, object=OBJECT)
        + refused("task.secure", "not_sealed", run=RUN),
    ),
    "lease_not_revoked": (
        outcome(
            "lease.revoke", result="failed", why="service_unavailable", lease={"path": "db/creds"}
        ),
        outcome("lease.revoke", lease={"path": "db/creds"})
        + event("lease.revoke", phase="intent", result=None)
        + refused("lease.grant", "lease_refused"),
    ),
    "recordings_cut": (
        event("trail.emitter", times=3, step=60, more={"state": "cut", "emitter": "c" * 32}),
        event("trail.emitter", times=3, step=3000, more={"state": "cut", "emitter": "c" * 32})
        + event("trail.emitter", times=9, step=1, more={"state": "whole", "emitter": "c" * 32}),
    ),
    "events_missing": (
        event("trail.emitter", more={"state": "gap", "emitter": "c" * 32}),
        event("trail.emitter", more={"state": "cut", "emitter": "c" * 32})
        + event("trail.emitter", more={"state": "found", "emitter": "c" * 32}),
    ),
    "events_lost": (
        event("emitter.loss", result="failed", why="audit_unavailable", more={"events": 3}),
        event("emitter.close", more={"events": 3}),
    ),
    "spool_bytes_refused": (
        event("trail.refused", more={"emitter": "c" * 32, "bytes": 90}),
        event("trail.emitter", more={"state": "whole", "emitter": "c" * 32}),
    ),
    "access_denied_repeated": (
        event("user.act", times=5, step=100, by=ONE, **DENIED),
        event("user.act", times=4, step=100, by=ONE, **DENIED)
        + event("user.act", times=4, step=100, by=OTHER, **DENIED)
        + event("user.act", times=9, by=ONE)
        + event("user.act", times=9, by=ONE, result="failed", why="request_invalid"),
    ),
    "log_key_changed": (
        event("trail.key", more={"vkey": "v", "from_size": 7}),
        event("trail.start", more={"origin": "o"}),
    ),
    "log_adopted": (event("trail.adopt", more={"size": 7}), event("trail.start")),
    "log_changed": (
        outcome("trail.verify", result="failed", why="digest_differs", more={"first_bad": 7}),
        outcome("trail.verify", more={"size": 7})
        + event("trail.verify", phase="intent", result=None, more={"size": 7}),
    ),
    "dataset_shredded": (
        outcome("dataset.shred", object=OBJECT, more={"reason": "asked"}),
        event("dataset.shred", phase="intent", result=None, object=OBJECT)
        + outcome("scratch.shred", more={"path": "x"})
        + refused("dataset.shred", "rule_denied", object=OBJECT),
    ),
    "key_destroyed": (outcome("key.destroy", key=KEY), outcome("key.disable", key=KEY)),
    "policy_changed": (
        outcome("rule.decide", rule={"id": "a", "digest": "sha256:1"})
        + outcome("rule.decide", 60, rule={"id": "b", "digest": "sha256:2"}),
        outcome("rule.decide", times=9, rule={"id": "a", "digest": "sha256:1"})
        + outcome("rule.decide", 9000, rule={"id": "a", "digest": "sha256:2"})
        + outcome("rule.decide", 9001, rule={"id": "a"}),
    ),
    "signature_invalid": (
        refused("object.verify", "signature_invalid", object=OBJECT, run=RUN),
        refused("object.verify", "not_signed", object=OBJECT, run=RUN)
        + outcome("object.verify", object=OBJECT, run=RUN),
    ),
    "data_changed": (
        refused("object.open", "digest_differs", object=OBJECT, run=RUN),
        refused("task.secure", "digest_differs", run=RUN)
        + refused("object.open", "not_sealed", object=OBJECT, run=RUN),
    ),
    "people_revealed": (
        event("trail.view", times=10, step=200, by=ONE, more={"page": "person"}),
        event("trail.view", times=9, step=200, by=ONE, more={"page": "person"})
        + event("trail.view", times=9, step=200, by=OTHER, more={"page": "person"})
        + event("trail.view", times=50, by=ONE, more={"page": "cli audit show"}),
    ),
}


def alerts(name, events):
    run = Rules(RULES[name])
    found = []
    for index, fields in enumerate(events):
        fields = dict(fields)
        run.derived.clear()
        run.derived.update(fields.pop("derived", {}))
        if fields["result"] is None:
            del fields["result"]
        found += run.see(leaf(index, **fields))
    return found


def test_every_rule_has_its_cases():
    assert set(CASES) == set(RULES)
    assert len(RULES) >= 18


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires(name):
    found = alerts(name, CASES[name][0])

    assert [(rule, raised.part) for rule, _, raised in found] == [(name, 0)]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_does_not_fire_at_what_is_no_reason(name):
    assert alerts(name, CASES[name][1]) == []


@pytest.mark.parametrize("name", CASES)
def test_the_events_of_a_case_are_such_as_are_written(name):
    for fields in [*CASES[name][0], *CASES[name][1]]:
        run = fields.get("run") and None
        parts = {key: fields.get(key) for key in ("object", "key", "lease", "rule", "more", "why")}
        fact = Fact(
            act=fields["act"], phase=fields["phase"], result=fields["result"], run=run, **parts
        )

        assert assemble(fact, emitter="a1" * 16, seq=0, prev=None, time=TIME, mono=0)


def fields_of(condition):
    """The fields that a condition looks at."""
    if isinstance(condition, FieldTest | Presence):
        return {condition.field}
    if isinstance(condition, Not):
        return fields_of(condition.part)
    assert isinstance(condition, All | AnyOf)
    return {name for part in condition.parts for name in fields_of(part)}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_names_fields_that_events_have(rule):
    named = {field for condition in rule.conditions for field in fields_of(condition)}

    for field in {*named, *rule.group_by, *filter(None, [rule.field])} - DERIVED.keys():
        assert field_kinds(field, rule.acts), field


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_says_what_it_means_and_what_to_do(rule):
    assert len(rule.description) > 80
    assert rule.title[0].isupper()
    assert rule.source == f"{rule.name}.yml, document 1"
