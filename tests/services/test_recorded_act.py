"""An act between its durable intent and its outcome, whatever ends it."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import (
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.recorded_act import printable, recorded
from airflow_secure_ml.testing.ports import MemoryAudit

RUN = RunRef(dag="churn", run="r1", task="train", try_number=1, ti="t")
FACTS = {"name": "warehouse", "kind": "connection"}


@pytest.fixture
def audit():
    return MemoryAudit()


def act(audit, **more):
    return recorded(audit, RUN, "secret.read", FACTS, **more)


def test_the_intent_is_durable_before_the_act(audit):
    with act(audit):
        durable = audit.settled

    assert durable == 1
    assert [(f.phase, f.result) for f in audit.facts] == [("intent", None), ("outcome", "ok")]


def test_nothing_is_done_whose_intent_cannot_be_recorded(audit):
    audit.broken, done = True, False

    with pytest.raises(ServiceUnavailableError), act(audit):
        done = True

    assert not done


def test_the_outcome_names_its_intent_the_run_the_key_and_the_time(audit):
    times = iter([1.0, 1.25])

    with act(audit, clock=lambda: next(times), place={"uri": "x"}) as outcome:
        outcome.because, outcome.key = "cached", KeyRef(system="local", name="data", version="3")

    fact = audit.facts[1]
    assert fact.of.endswith(":1")
    assert fact.run == RUN
    assert fact.object == {"uri": "x"}
    assert fact.key == {"system": "local", "name": "data", "version": "3"}
    assert fact.more == {**FACTS, "because": "cached", "ms": 250}


@pytest.mark.parametrize(
    ("error", "result", "why"),
    [
        (PolicyError("no", why="rule_denied"), "refused", "rule_denied"),
        (PolicyError("no", why="a word of its own"), "refused", "bug"),
        (ServiceRefusedError("no"), "failed", "key_not_allowed"),
        (ServiceUnavailableError("no"), "failed", "service_unavailable"),
        (ValueError("canary"), "failed", "service_unavailable"),
        (ImportError("canary"), "failed", "misconfigured"),
        (KeyboardInterrupt(), "failed", "task_raised"),
    ],
    ids=lambda value: getattr(value, "why", None) or str(type(value).__name__),
)
def test_whatever_ends_it_is_durable_before_it_goes_on(audit, error, result, why):
    with pytest.raises(type(error)), act(audit):
        raise error

    assert audit.settled == 2
    assert (audit.facts[1].result, audit.facts[1].why) == (result, why)
    assert "canary" not in repr(audit.facts)


def test_any_name_can_be_recorded(audit):
    for name in ("a\0b", "\ud800", "x" * 5000):
        with recorded(audit, None, "secret.read", {"name": printable(name), "kind": "variable"}):
            pass

    assert [len(f.more["name"]) for f in audit.facts if f.phase == "intent"] == [3, 1, 5000]
