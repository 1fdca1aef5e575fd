"""Hold leaves against rules, one after the other, and say which alerts that makes.

An alert, and whatever is said about one, is never an event that a rule means: else one alert could
make the next. What a task says about alerts is not believed here: it could end its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_secure_ml.core.alerts.counting import Counts, Match, Raised
from airflow_secure_ml.core.alerts.matching import Derive, Seen
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.core.alerts.taxonomy import Hidden
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.event_fields import is_of_a_task, name_of, part
from airflow_secure_ml.core.audit.query import Leaf

NEVER_MEANT = ("alert.",)
ABOUT = "rule."
MAX_SUBJECT, MAX_VALUE = 250, 100
_LABELS = {
    "run.dag": "DAG",
    "run.run": "run",
    "run.task": "task",
    "object.uri": "",
    "object.name": "",
    "key.name": "key",
    "lease.path": "",
    "rule.id": "rule",
    "by": "person",
    "emitter": "recording",
    "more.emitter": "recording",
    "derived.host": "host",
    "derived.program": "program",
}


class Evaluator:
    """Counts what rules mean.

    Args:
        rules: Those in force.
        counts: What was counted before.
        derive: Works out derived fields.
    """

    def __init__(self, rules: Sequence[AlertRule], counts: Counts, derive: Derive) -> None:
        self._rules, self.counts, self._derive = rules, counts, derive
        counts.fit(rules)
        self._by_act: dict[str, list[AlertRule]] = {}
        for act in ACTIVITIES:
            self._by_act[act] = [rule for rule in rules if not rule.acts or act in rule.acts]
        self._of_any = [rule for rule in rules if not rule.acts]

    def take(self, leaf: Leaf) -> None:
        """Count one leaf for every rule that means it."""
        act = leaf.event.get("act")
        if not isinstance(act, str):
            return
        if act.startswith(NEVER_MEANT):
            self._end(leaf.event, act)
            return
        seen = Seen(leaf=leaf, derive=self._derive)
        for rule in self._by_act.get(act, self._of_any):
            if any(condition.holds(seen) for condition in rule.conditions):
                self._count(rule, seen)

    def due(self, now_ms: int) -> Iterator[tuple[AlertRule, tuple[str, ...], Raised]]:
        """What there is to tell; it is told once it was given."""
        for rule in self._rules:
            for values, group in self.counts.each(rule.name):
                if group.due(now_ms):
                    yield rule, values, group.tell(now_ms)

    def encode(self) -> dict[str, Any]:
        """What was counted, as JSON values."""
        return self.counts.encode(self._rules)

    def _count(self, rule: AlertRule, seen: Seen) -> None:
        values = tuple(_text(seen.values(name)) for name in rule.group_by)
        counted = "" if not rule.field else _text(seen.values(rule.field))
        time, event = seen.leaf.event.get("time"), seen.leaf.event
        if not isinstance(time, int) or (rule.field and not counted):
            return
        match = Match(
            time=time,
            name=name_of(event),
            value=counted,
            dag=_text(seen.values("run.dag")),
        )
        self.counts.group(rule.name, values).take(rule, values, match)

    def _end(self, event: Mapping[str, Any], act: str) -> None:
        alert = part(event, "more").get("alert")
        if act == "alert.close" and isinstance(alert, str) and alert and not is_of_a_task(event):
            self.counts.end(alert)


def _text(found: Sequence[Any]) -> str:
    """A field's values as one text; empty: there is none."""
    words = [f"hidden:{each.hash}" if isinstance(each, Hidden) else str(each) for each in found]
    return ", ".join(words)


def fact_of(rule: AlertRule, values: Sequence[str], raised: Raised) -> Fact:
    """The event that says so."""
    more = {
        "about": ABOUT + rule.name,
        "subject": subject(rule.group_by, values),
        "because": rule.title,
        "level": rule.level,
        "alert": raised.alert,
        "part": raised.part,
        "events": list(raised.events),
        "count": raised.count,
        "from_ms": raised.from_ms,
        "until_ms": raised.until_ms,
    }
    return Fact(
        act="alert.raise",
        phase="seen",
        result="ok",
        run=RunRef(dag=raised.dag, run="") if raised.dag else None,
        rule={"id": rule.name, "digest": rule.digest},
        more=more,
    )


def subject(group_by: Sequence[str], values: Sequence[str]) -> str:
    """What an alert is about, in words."""
    words = []
    for name, value in zip(group_by, values, strict=True):
        label = _LABELS.get(name, name)
        if value.startswith("hidden:"):
            shown = f"hidden {value[7:15]}"
        elif len(value) > MAX_VALUE:
            shown = "…" + value[-MAX_VALUE:]
        else:
            shown = value or "none"
        words.append(f"{label} {shown}".strip())
    return ", ".join(words)[:MAX_SUBJECT] or "the whole log"
