"""Turn alerts into what their page shows.

Pure. Every text may hold what a task wrote: `wording` shows what would hide or reorder it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.views import Mark, When, when
from airflow_secure_ml.plugin.wording import visible
from airflow_secure_ml.services.alert_states import (
    ACKNOWLEDGED,
    CLOSED,
    OPEN,
    STATUSES,
    Alert,
)
from airflow_secure_ml.services.coverage_alerts import COVERAGE, EMITTER

# Level: (icon, tone); the word is the level's own.
LOOKS = {
    "critical": ("stop", "bad"),
    "high": ("stop", "bad"),
    "medium": ("warn", "look"),
    "low": ("dot", "quiet"),
    "informational": ("dot", "quiet"),
}
STATUS_LOOKS = {
    OPEN: ("hollow", "open", "plain"),
    ACKNOWLEDGED: ("clock", "acknowledged", "quiet"),
    CLOSED: ("check", "closed", "quiet"),
}
# What checks of our own call what they alert about.
TITLES = {
    f"{COVERAGE}silent": "Airflow ran tasks that the trail does not have",
    f"{COVERAGE}unsecured": "Tasks were to be secured and were not",
    f"{COVERAGE}cut": "Recordings of tasks were cut off",
    f"{COVERAGE}unknown": "The trail has tries that Airflow does not know",
    f"{EMITTER}cut": "Recordings were cut off",
    f"{EMITTER}gap": "Events of recordings are missing",
    f"{EMITTER}torn": "Recordings end in the middle of an event",
    "spool": "Much waits in the spool",
    "checkpoint": "No checkpoint could be signed",
    "siem": "A receiver of events does not take them",
    "alerts": "The alert rules cannot be evaluated",
    "witness": "A witness does not cosign",
    "anchor": "Checkpoints cannot be locked away",
    "stamp": "No time stamp could be had",
    "vault.unrecorded": "Vault's log has uses that the trail does not have",
    "vault.unasked": "The trail has uses that Vault's log does not have",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One line of the list.

    Attributes:
        name: The event that raised it.
        level: How grave it is, at a glance.
        status: What became of it.
        title: What happened.
        subject: About what.
        dag: The DAG; empty: none.
        count: How many events it rests on; empty: it does not say.
        first: When it began.
        newest: When it was told of last.
        is_closed: Whether it is over.
    """

    name: str
    level: Mark
    status: Mark
    title: str
    subject: str
    dag: str
    count: str
    first: When
    newest: When
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to narrow the list."""

    label: str
    count: str
    href: str
    chosen: bool
    tone: str = ""


def alert_row(alert: Alert) -> AlertRow:
    """An alert as one line."""
    icon, tone = LOOKS[alert.level]
    status_icon, word, status_tone = STATUS_LOOKS[alert.status]
    is_closed = alert.status == CLOSED
    return AlertRow(
        name=alert.name,
        level=Mark(icon=icon, word=alert.level, tone="quiet" if is_closed else tone),
        status=Mark(icon=status_icon, word=word, tone=status_tone),
        title=title_of(alert),
        subject=visible(alert.subject),
        dag=visible(alert.dag) if alert.dag else "",
        count=_shown(alert.count),
        first=when(alert.from_ms),
        newest=when(alert.until_ms),
        is_closed=is_closed,
    )


def title_of(alert: Alert) -> str:
    """What happened, in a few words."""
    known = TITLES.get(alert.about)
    # Of a rule it is the rule's; a task can write an event of that name, so it is shown as text.
    return known or visible(alert.title or alert.about or "An alert")


def choices(alerts: Sequence[Alert], status: str, level: str) -> dict[str, list[Choice]]:
    """What the list can be narrowed to, with how many there are."""
    by_status = [
        Choice(
            label=STATUS_LOOKS[each][1],
            count=_shown(len(chosen(alerts, each, level))),
            href=href("alerts", status=each, level=level),
            chosen=each == status,
        )
        for each in STATUSES
    ]
    by_level = [
        Choice(
            label=each,
            count=_shown(number),
            href=href("alerts", status=status, level="" if each == level else each),
            chosen=each == level,
            tone=LOOKS[each][1],
        )
        for each in reversed(LEVELS)
        if (number := len(chosen(alerts, status, each))) or each == level
    ]
    return {"status": by_status, "level": by_level}


def _shown(count: int) -> str:
    return f"{count:,}" if count else ""


def chosen(alerts: Iterable[Alert], status: str, level: str) -> list[Alert]:
    """The alerts that the list is narrowed to."""
    return [e for e in alerts if e.status == status and level in ("", e.level)]


def rules_said(rules: Iterable[AlertRule], alerts: Iterable[Alert]) -> list[Mapping[str, object]]:
    """The rules in force, with how many open alerts each has."""
    counts: dict[str, int] = {}
    for alert in alerts:
        if alert.status == OPEN:
            counts[alert.rule] = counts.get(alert.rule, 0) + 1
    order = {level: at for at, level in enumerate(reversed(LEVELS))}
    return [
        {
            "name": rule.name,
            "title": visible(rule.title),
            # Nothing is broken yet: colour is for alerts.
            "level": Mark(icon=LOOKS[rule.level][0], word=rule.level, tone="quiet"),
            "description": visible(rule.description, limit=1000),
            "open": counts.get(rule.name, 0),
        }
        for rule in sorted(rules, key=lambda rule: (order[rule.level], rule.title))
    ]
