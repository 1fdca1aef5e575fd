"""What the trail's events about alerts come to: which are open, what they rest on, who said what.

The trail is the memory: an alert raised twice, as after a kill, is one, by what it is recognised
by. What a task says about alerts of rules is not believed: it could end its own.

Source: AUDIT_TRAIL, Producers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.alerts.evaluating import ABOUT
from airflow_secure_ml.core.alerts.levels import LEVELS, level_of
from airflow_secure_ml.core.audit.event_fields import is_of_a_task, name_of, number, part, text
from airflow_secure_ml.core.audit.query import Leaf

OPEN, ACKNOWLEDGED, CLOSED = "open", "acknowledged", "closed"
STATUSES = (OPEN, ACKNOWLEDGED, CLOSED)
ACTS = ("alert.raise", "alert.acknowledge", "alert.close")
NAMES_KEPT = 100
_NAMED = ("tis", "emitters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody said to an alert.

    Attributes:
        event: The event's name.
        act: `alert.acknowledge` or `alert.close`.
        time_ms: When, ms since 1970 UTC.
        note: Their reason: text, or a hidden value.
        is_person: Whether a person said it; else the check that had raised it.
    """

    event: str
    act: str
    time_ms: int
    note: Any
    is_person: bool


@dataclass(slots=True, kw_only=True)
class Alert:
    """An alert as the trail has it.

    Attributes:
        name: The event that raised it; what links carry.
        alert: What it is recognised by; empty: a check of its own raised it, no rule.
        about: What kind it is.
        subject: What it is about, in words.
        title: Why, in a few words.
        level: One of `LEVELS`.
        dag: The DAG it belongs to; empty: none.
        raised_ms: When it was raised.
        from_ms: Time of its earliest evidence.
        until_ms: Time of its newest.
        count: How many events it rests on.
        events: Names of the newest of them.
        left: Tries or recordings that it is still about, by name.
        status: One of `STATUSES`.
        answers: What was said to it, oldest first.
        parts: How often it was told of, by part.
    """

    name: str
    alert: str
    about: str
    subject: str
    title: str
    level: str
    dag: str
    raised_ms: int
    from_ms: int
    until_ms: int
    count: int = 0
    events: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)
    status: str = OPEN
    answers: list[Answer] = field(default_factory=list)
    parts: set[int] = field(default_factory=set)

    @property
    def rule(self) -> str:
        """The rule's name; empty: none raised it."""
        return self.about.removeprefix(ABOUT) if self.about.startswith(ABOUT) else ""

    @property
    def rank(self) -> tuple[int, int, int]:
        """For sorting: what needs somebody first, comes first."""
        return (STATUSES.index(self.status), -LEVELS.index(self.level), -self.until_ms)


def alert_states(leaves: Iterable[Leaf]) -> list[Alert]:
    """The alerts that these events speak of, those first that need somebody.

    Args:
        leaves: Of `ACTS`; their order is that of the log, whatever clocks said.
    """
    found: dict[str, Alert] = {}
    for leaf in sorted(leaves, key=lambda leaf: leaf.index):
        event = leaf.event
        if event.get("act") == "alert.raise":
            _raise(found, event)
        elif event.get("act") in ACTS:
            _answer(found, event)
    return sorted(found.values(), key=lambda alert: alert.rank)


def _raise(found: dict[str, Alert], event: Mapping[str, Any]) -> None:
    more, name = part(event, "more"), name_of(event)
    alert = text(more.get("alert")) if not is_of_a_task(event) else ""
    key = alert or name
    which = number(more.get("part"))
    known = found.get(key)
    if known is not None and which in known.parts:
        # Raised twice, as after a kill at the worst moment.
        return
    if known is None:
        known = found[key] = _new(event, more, name, alert)
    time, events = number(event.get("time")), _texts(more.get("events"))
    known.parts.add(which)
    known.from_ms = min(known.from_ms, number(more.get("from_ms"), time))
    known.until_ms = max(known.until_ms, number(more.get("until_ms"), time))
    known.count += number(more.get("count"), len(events))
    known.events = [*known.events, *events][-NAMES_KEPT:]
    known.left.update(name for word in _NAMED for name in _texts(more.get(word)))


def _new(event: Mapping[str, Any], more: Mapping[str, Any], name: str, alert: str) -> Alert:
    time, about = number(event.get("time")), text(more.get("about"))
    return Alert(
        name=name,
        alert=alert,
        about=about,
        subject=text(more.get("subject")),
        title=text(more.get("because")),
        level=level_of(more.get("level"), about),
        dag=text(part(event, "run").get("dag")),
        raised_ms=time,
        from_ms=number(more.get("from_ms"), time),
        until_ms=number(more.get("until_ms"), time),
    )


def _answer(found: Mapping[str, Alert], event: Mapping[str, Any]) -> None:
    if is_of_a_task(event):
        return
    more, act = part(event, "more"), str(event["act"])
    note = more.get("note", more.get("because", ""))
    answer = Answer(
        event=name_of(event),
        act=act,
        time_ms=number(event.get("time")),
        note=note,
        is_person="by" in event,
    )
    for alert in _meant(found, event, more):
        alert.answers.append(answer)
        if act == "alert.close":
            alert.status = CLOSED
        elif alert.status == OPEN:
            alert.status = ACKNOWLEDGED


def _meant(
    found: Mapping[str, Alert], event: Mapping[str, Any], more: Mapping[str, Any]
) -> Iterator[Alert]:
    """The alerts that an answer is for."""
    alert, of = text(more.get("alert")), event.get("of")
    if alert or of is not None:
        known = found.get(alert) or next((e for e in found.values() if e.name == of), None)
        if known is not None:
            yield known
        return
    about, subject = more.get("about"), more.get("subject")
    names = {name for word in _NAMED for name in _texts(more.get(word))}
    for each in found.values():
        if each.about != about or each.alert or each.status == CLOSED:
            continue
        if names:
            # Each try that is all right now; the alert is over with the last of them.
            each.left -= names
            if not each.left:
                yield each
        elif each.subject == text(subject) and not each.left:
            yield each


def _texts(found: object) -> list[str]:
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
