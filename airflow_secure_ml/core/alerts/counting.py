"""What rules have counted so far, group by group, and when that is an alert.

Bounded whatever events say: groups a rule, matches a group and the names in an alert have an end.
Times are those of the events; a clock that lies moves its own events alone.

Source: Sigma 2.1, Correlation Rules, event_count and value_count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.alerts.rule import AlertRule

MAX_GROUPS = 500
NAMES_AN_ALERT = 50
# Counted matches of a group: what came late belongs into a window that others have left.
_ROOM = 2
QUIET_MS, LONGEST_QUIET_MS = 3_600_000, 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An event that a rule means.

    Attributes:
        time: Its time, ms since 1970 UTC.
        name: The event's name.
        value: What is counted of it; empty where events are.
        dag: The DAG it belongs to; empty: none.
    """

    time: int
    name: str
    value: str = ""
    dag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An alert, or more evidence of one that is open.

    Attributes:
        alert: What it is recognised by: 32 hex digits of the rule, its group and its first event.
        part: 0, then 1, 2 … for more evidence.
        events: Names of events, the newest; at most `NAMES_AN_ALERT`.
        count: How many events there are.
        from_ms: Time of the earliest.
        until_ms: Time of the latest.
        dag: The DAG that all of them belong to; empty: there is none such.
    """

    alert: str
    part: int
    events: tuple[str, ...]
    count: int
    from_ms: int
    until_ms: int
    dag: str


@dataclass(slots=True, kw_only=True)
class Group:
    """What is known of one group of a rule.

    Attributes:
        matches: Those that are still counted, in the order of the log.
        alert: The open alert; empty: none.
        part: The part of it that comes next.
        told_ms: When the last one was raised, by the clock of who evaluates.
        fresh: More evidence that was not told yet; names, then count and times.
    """

    matches: list[Match] = field(default_factory=list)
    alert: str = ""
    part: int = 0
    told_ms: int = 0
    fresh: list[Match] = field(default_factory=list)
    fresh_count: int = 0

    def take(self, rule: AlertRule, values: Sequence[str], match: Match) -> None:
        """Count a match."""
        if rule.kind == "value_count":
            # Of one value the newest: however often it comes, it pushes no other one out.
            self.matches = [each for each in self.matches if each.value != match.value]
        self.matches.append(match)
        del self.matches[: -_ROOM * rule.at_least]
        window = _window(self.matches, rule, match.time)
        if window is None:
            return
        self.matches = []
        if not self.alert:
            self.alert, self.part, self.told_ms = alert_id(rule.name, values, window[0]), 0, 0
        self.fresh_count += len(window)
        self.fresh = [*self.fresh, *window][-NAMES_AN_ALERT:]

    def due(self, now_ms: int) -> bool:
        """Whether there is something to tell: at once, then ever more seldom."""
        quiet = min(QUIET_MS << min(max(self.part - 1, 0), 10), LONGEST_QUIET_MS)
        # A clock that was set back must not silence an alert for good.
        waited = abs(now_ms - self.told_ms) >= quiet
        return bool(self.fresh) and (self.part == 0 or waited)

    def tell(self, now_ms: int) -> Raised:
        """What there is to tell; it is told."""
        times = [match.time for match in self.fresh]
        dags = {match.dag for match in self.fresh}
        found = Raised(
            alert=self.alert,
            part=self.part,
            events=tuple(dict.fromkeys(match.name for match in self.fresh)),
            count=self.fresh_count,
            from_ms=min(times),
            until_ms=max(times),
            dag=dags.pop() if len(dags) == 1 else "",
        )
        self.part, self.told_ms, self.fresh, self.fresh_count = self.part + 1, now_ms, [], 0
        return found

    def end(self) -> None:
        """Forget an alert that is over; what comes next is another one."""
        self.alert, self.part, self.told_ms, self.fresh, self.fresh_count = "", 0, 0, [], 0

    def encode(self) -> list[Any]:
        """As JSON values."""
        matches = [[m.time, m.name, m.value, m.dag] for m in self.matches]
        fresh = [[m.time, m.name, m.value, m.dag] for m in self.fresh]
        return [matches, self.alert, self.part, self.told_ms, fresh, self.fresh_count]


def decode_group(found: Sequence[Any]) -> Group:
    """What `Group.encode` gave; ValueError or TypeError: it did not."""
    matches, alert, part, told_ms, fresh, count = found
    return Group(
        matches=[_match(*each) for each in matches],
        alert=str(alert),
        part=int(part),
        told_ms=int(told_ms),
        fresh=[_match(*each) for each in fresh],
        fresh_count=int(count),
    )


def _match(time: int, name: str, value: str, dag: str) -> Match:
    return Match(time=int(time), name=str(name), value=str(value), dag=str(dag))


def _window(matches: Sequence[Match], rule: AlertRule, time: int) -> list[Match] | None:
    """The matches within the rule's time around one of them, if they are enough."""
    ordered = sorted(matches, key=lambda match: match.time)
    for start, first in enumerate(ordered):
        if first.time < time - rule.timespan_ms:
            continue
        if first.time > time:
            break
        end = first.time + rule.timespan_ms
        window = [match for match in ordered[start:] if match.time <= end]
        counted = {m.value for m in window} if rule.kind == "value_count" else window
        if len(counted) >= rule.at_least:
            return window
    return None


def alert_id(rule: str, values: Sequence[str], first: Match) -> str:
    """What an alert is recognised by, whoever evaluates the same log again."""
    text = _json([rule, list(values), first.name])
    return hashlib.sha256(b"asml/v1/alert\0" + text.encode()).hexdigest()[:32]


def _json(values: Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=True, separators=(",", ":"))


class Counts:
    """The groups of every rule; the ones that were met last are kept.

    Args:
        groups: By rule's name, then by the group's values.
    """

    def __init__(self, groups: Mapping[str, Mapping[tuple[str, ...], Group]] | None = None) -> None:
        self._groups = {rule: dict(found) for rule, found in (groups or {}).items()}

    def group(self, rule: str, values: Sequence[str]) -> Group:
        """A group of a rule; made if it is new, in the place of the one that rested longest."""
        key = tuple(values)
        found = self._groups.setdefault(rule, {})
        group = found.pop(key, None)
        if group is None:
            group = Group()
            if len(found) >= MAX_GROUPS:
                # One without an open alert, if there is one: an alert goes on being one.
                idle = next((other for other, each in found.items() if not each.alert), None)
                found.pop(next(iter(found)) if idle is None else idle)
        found[key] = group
        return group

    def fit(self, rules: Iterable[AlertRule]) -> None:
        """Forget groups that a rule of that name no longer makes: of more values, or of fewer."""
        for rule in rules:
            found = self._groups.get(rule.name, {})
            for values in [each for each in found if len(each) != len(rule.group_by)]:
                del found[values]

    def each(self, rule: str) -> list[tuple[tuple[str, ...], Group]]:
        """The groups of a rule, with their values."""
        return list(self._groups.get(rule, {}).items())

    def end(self, alert: str) -> None:
        """Forget an alert that is over."""
        for found in self._groups.values():
            for group in found.values():
                if group.alert == alert:
                    group.end()

    def encode(self, rules: Sequence[AlertRule]) -> dict[str, Any]:
        """As JSON values, of rules that are still there."""
        names = [rule.name for rule in rules if rule.name in self._groups]
        return {n: {_json(k): g.encode() for k, g in self._groups[n].items()} for n in names}


def decode_counts(found: Mapping[str, Mapping[str, Any]]) -> Counts:
    """What `Counts.encode` gave; ValueError, TypeError or AttributeError: it did not."""
    return Counts(
        {
            rule: {tuple(json.loads(key)): decode_group(group) for key, group in groups.items()}
            for rule, groups in found.items()
        }
    )
