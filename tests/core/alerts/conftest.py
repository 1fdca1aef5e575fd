"""Leaves as rules see them, without a log."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.alerts.counting import Counts
from airflow_secure_ml.core.alerts.evaluating import Evaluator
from airflow_secure_ml.core.alerts.reading import Document, parse_rules
from airflow_secure_ml.core.audit.query import Leaf

TIME = 1_795_316_400_000


def leaf(index=0, *, act="object.open", seconds=0, emitter="a1" * 16, **fields):
    event = {"v": 1, "emitter": emitter, "seq": index, "time": TIME + seconds * 1000, "mono": 0}
    event |= {"act": act, "phase": "outcome", "result": "ok", **fields}
    return Leaf(index=index, data=b"", hash=bytes(32), event=event)


def rule(detection, *, correlation=None, **said):
    """One rule from its detection, perhaps with what counts it."""
    body = {"title": "A rule", "name": "a_rule", "detection": detection}
    body |= {"logsource": {"product": "airflow_secure_ml"}, **said}
    documents = [Document(source="a.yml", body=body)]
    if correlation is not None:
        body["name"] = "counted"
        found = {"title": "A rule", "name": "a_rule", "correlation": correlation}
        documents.append(Document(source="b.yml", body=found))
    (made,) = parse_rules(documents)
    return made


class Rules:
    """Rules over leaves, with a clock that the test sets."""

    def __init__(self, *rules, derived=None):
        self.now = TIME
        self.derived = derived or {}
        self.rules = rules
        self.evaluator = Evaluator(rules, Counts(), lambda leaf, name: self.derived.get(name))

    def see(self, *leaves):
        """The alerts that these leaves make."""
        for each in leaves:
            self.evaluator.take(each)
        return [(rule.name, values, raised) for rule, values, raised in self.due()]

    def due(self):
        return [*self.evaluator.due(self.now)]


@pytest.fixture
def rules():
    return Rules
