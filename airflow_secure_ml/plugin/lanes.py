"""Lay out a DAG run: one lane a task try, its steps from left to right, what the trail lacks.

Pure. Airflow's own tries come as values; an event's place on the line is its time, moved aside only
where two marks would cover each other (their order is always the trail's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin.sentences import sentence
from airflow_secure_ml.plugin.wording import duration, fields, key_label, plain, reason

# activity: (shape, word)
STEPS = {
    "rule.decide": ("diamond", "rule"),
    "object.verify": ("tick", "verified"),
    "object.open": ("box", "opened"),
    "object.validate": ("score", "validated"),
    "object.quarantine": ("score", "quarantined"),
    "lease.grant": ("key", "leased"),
    "object.seal": ("sealed", "sealed"),
    "object.sign": ("pen", "signed"),
    "object.publish": ("up", "published"),
}
# Per cent of the line: two marks closer than this would cover each other.
MARK_GAP = 2.6
LAST_MARK = 98.5
MIN_BAR = 0.6
DIRECTIONS = {"object.open": "read", "object.publish": "written"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """A task try as Airflow knows it.

    Attributes:
        ti: Its UUID.
        start_ms: When it started, ms since 1970 UTC; None: it never did.
    """

    ti: str
    task: str
    map_index: int
    number: int
    state: str
    start_ms: int | None
    end_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A mark on a lane; `x` in per cent."""

    x: float
    shape: str
    title: str
    tone: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time; `x` and `width` in per cent."""

    x: float
    width: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One task try."""

    name: str
    attempt: str
    said: str
    tone: str
    bars: tuple[Bar, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All lanes of one task; mapped instances and earlier tries fold."""

    task: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A version of an object that went into the run or came out of it."""

    direction: str
    task: str
    name: str
    uri: str
    digest: str
    key: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as the tab shows it.

    Attributes:
        groups: Tasks in the order in which they began.
        ticks: (per cent, label) of the time line.
        flows: What was read and written.
        recorded: How many of Airflow's started tries the trail knows.
        started: How many tries Airflow started.
        refused: How many tries were refused or failed in the trail.
    """

    groups: tuple[Group, ...]
    ticks: tuple[tuple[float, str], ...]
    flows: tuple[Flow, ...]
    recorded: int
    started: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    start: int
    end: int

    def at(self, ms: object) -> float:
        if not isinstance(ms, int) or not _is_time(ms):
            return 0.0
        share = (ms - self.start) / max(self.end - self.start, 1)
        return round(min(max(share, 0.0), 1.0) * LAST_MARK, 2)


def lay_out(leaves: Sequence[Leaf], tries: Sequence[Try]) -> RunView:
    """Lay out a run.

    Args:
        leaves: The run's events, oldest first.
        tries: Airflow's tries of the run, from its own tables.
    """
    by_try: dict[str, list[Mapping[str, Any]]] = {}
    for leaf in leaves:
        run = fields(leaf.event, "run")
        # Who looks at a task, or clears it, is not the task.
        if "task" in run and leaf.event.get("act") != "user.act":
            by_try.setdefault(_try_key(run), []).append(leaf.event)
    known = {attempt.ti: attempt for attempt in tries if attempt.start_ms is not None}
    scale = _scale(by_try.values(), known.values())
    lanes: dict[str, list[tuple[int, Lane]]] = {}
    for key, events in by_try.items():
        task = plain(fields(events[0], "run").get("task", "?"))
        lane = _lane(events, known.get(key), scale)
        lanes.setdefault(task, []).append((_first_ms(events), lane))
    for attempt in known.values():
        if attempt.ti not in by_try:
            found = (attempt.start_ms or 0, _silent(attempt, scale))
            lanes.setdefault(attempt.task, []).append(found)
    groups = sorted(lanes.items(), key=lambda item: min(start for start, _ in item[1]))
    return RunView(
        groups=tuple(
            Group(task=task, lanes=tuple(lane for _, lane in sorted(of, key=lambda pair: pair[0])))
            for task, of in groups
        ),
        ticks=_ticks(scale),
        flows=tuple(_flows(leaves)),
        recorded=sum(ti in by_try for ti in known),
        started=len(known),
        refused=sum(lane.tone == "bad" for of in lanes.values() for _, lane in of),
    )


def _try_key(run: Mapping[str, Any]) -> str:
    ti = run.get("ti")
    if isinstance(ti, str):
        return ti
    return "/".join(plain(run.get(name, "")) for name in ("task", "map", "try"))


def _first_ms(events: Sequence[Mapping[str, Any]]) -> int:
    time = events[0].get("time")
    return time if isinstance(time, int) else 0


def _is_time(ms: object) -> bool:
    """Whether it is a number that an event may hold; an edited log may hold any."""
    return isinstance(ms, int) and abs(ms) < 2**53


def _scale(groups: Iterable[Sequence[Mapping[str, Any]]], tries: Iterable[Try]) -> _Scale:
    times = [event["time"] for events in groups for event in events if _is_time(event.get("time"))]
    times += [ms for attempt in tries for ms in (attempt.start_ms, attempt.end_ms) if ms]
    return _Scale(start=min(times), end=max(times)) if times else _Scale(start=0, end=1)


def _ticks(scale: _Scale) -> tuple[tuple[float, str], ...]:
    span = (scale.end - scale.start) / 1000
    if span <= 1e-3:
        return ()
    return tuple((LAST_MARK * part / 4, f"+{duration(span * part / 4)}") for part in range(4))


def _lane(events: Sequence[Mapping[str, Any]], known: Try | None, scale: _Scale) -> Lane:
    run = fields(events[0], "run")
    map_index = run.get("map", -1)
    attempt = f"try {plain(run.get('try', '?'))}"
    if map_index != -1:
        attempt = f"[{plain(map_index)}] {attempt}"
    refusal = next((event for event in events if event.get("result") == "refused"), None)
    failure = next((event for event in events if event.get("result") == "failed"), None)
    bad = refusal or failure
    ended = any(_is_end(event) for event in events)
    secured = [event for event in events if event.get("act") == "task.secure"]
    steps = _spread(_steps(events, scale))
    return Lane(
        name=plain(run.get("task", "?")),
        attempt=attempt,
        said=_said(bad, secured, ended=ended),
        tone="bad" if bad else ("" if ended or not secured else "look"),
        bars=tuple(
            _bars(events, known, scale, bad=bad is not None, cut=bool(secured) and not ended)
        ),
        steps=tuple(steps),
    )


def _is_end(event: Mapping[str, Any]) -> bool:
    outcome = event.get("act") == "task.secure" and event.get("phase") == "outcome"
    return outcome or event.get("act") == "task.end"


def _said(
    bad: Mapping[str, Any] | None, secured: Sequence[Mapping[str, Any]], *, ended: bool
) -> str:
    if bad is not None:
        if bad.get("act") == "task.secure":
            return reason(bad.get("why", "?"))
        return sentence(bad)
    if not secured:
        return "not secured; Airflow's own events only"
    if not ended:
        return "how it ended is not in the trail"
    return sentence(secured[-1])


def _bars(
    events: Sequence[Mapping[str, Any]], known: Try | None, scale: _Scale, *, bad: bool, cut: bool
) -> Iterable[Bar]:
    first, last = scale.at(events[0].get("time")), scale.at(events[-1].get("time"))
    if cut and known is not None and known.end_ms is not None:
        last = scale.at(known.end_ms)
    tone = "bad" if bad else ("cut" if cut else "")
    yield Bar(x=first, width=max(last - first, MIN_BAR), tone=tone, title="the task's time")
    revoked = _revoked(events)
    for event in events:
        lease = fields(event, "lease")
        if event.get("act") == "lease.grant" and event.get("result") == "ok":
            x = scale.at(event.get("time"))
            end = scale.at(revoked.get(str(lease.get("id"))) or events[-1].get("time"))
            title = f"lease of {plain(lease.get('path', '?'))}"
            yield Bar(x=x, width=max(end - x, MIN_BAR), tone="lease", title=title)


def _revoked(events: Sequence[Mapping[str, Any]]) -> Mapping[str, object]:
    """When each lease was first revoked, by its id."""
    found: dict[str, object] = {}
    for event in events:
        if event.get("act") == "lease.revoke" and event.get("result") == "ok":
            found.setdefault(str(fields(event, "lease").get("id")), event.get("time"))
    return found


def _steps(events: Sequence[Mapping[str, Any]], scale: _Scale) -> Iterable[Step]:
    answered = {str(event.get("of")) for event in events if event.get("phase") == "outcome"}
    for event in events:
        shape, word = STEPS.get(str(event.get("act")), ("", ""))
        name = name_of(event)
        if not shape or (event.get("phase") == "intent" and name in answered):
            continue
        tone = ""
        if event.get("phase") == "intent":
            tone, word = "hollow", "not known to have happened"
        elif event.get("result") in ("refused", "failed"):
            tone = "bad"
        yield Step(
            x=scale.at(event.get("time")),
            shape="stop" if tone == "bad" else shape,
            title=sentence(event) if tone == "bad" else f"{word}: {sentence(event)}",
            tone=tone,
            event=name,
        )


def _spread(steps: Iterable[Step]) -> list[Step]:
    """Move marks apart, from the left; what would leave the line on the right is moved back."""
    found = list(steps)
    places: list[float] = []
    for step in found:
        places.append(max(step.x, places[-1] + MARK_GAP) if places else step.x)
    limit = LAST_MARK
    for at in reversed(range(len(places))):
        places[at] = min(places[at], limit)
        limit = places[at] - MARK_GAP
    return [
        Step(x=round(max(x, 0), 2), shape=s.shape, title=s.title, tone=s.tone, event=s.event)
        for s, x in zip(found, places, strict=True)
    ]


def _silent(attempt: Try, scale: _Scale) -> Lane:
    mapped = f"[{attempt.map_index}] " if attempt.map_index >= 0 else ""
    x = scale.at(attempt.start_ms)
    end = scale.at(attempt.end_ms) if attempt.end_ms else x
    bar = Bar(
        x=x, width=max(end - x, MIN_BAR), tone="silent", title="Airflow's times; nothing recorded"
    )
    return Lane(
        name=attempt.task,
        attempt=f"{mapped}try {attempt.number}",
        said=f"Airflow ran it ({attempt.state}); the trail has nothing",
        tone="quiet",
        bars=(bar,),
        steps=(),
    )


def _flows(leaves: Sequence[Leaf]) -> Iterable[Flow]:
    for leaf in leaves:
        event = leaf.event
        direction = DIRECTIONS.get(str(event.get("act")))
        if direction is None or event.get("result") != "ok":
            continue
        obj = fields(event, "object")
        yield Flow(
            direction=direction,
            task=plain(fields(event, "run").get("task", "")),
            name=plain(obj.get("name", "")),
            uri=plain(obj.get("uri", "")),
            digest=plain(obj.get("digest", "")),
            key=key_label(fields(event, "key")),
            event=name_of(event),
        )
