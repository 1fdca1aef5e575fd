"""Decide what became of each of Airflow's task tries in the trail: recorded, or why not.

Pure: rows of Airflow and facts of the trail come as values. It finds what is missing beside
Airflow's own tables; whoever can change both can keep it from finding anything.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RECORDED, CUT, SILENT = "recorded", "cut", "silent"
UNSECURED, UNKNOWN = "unsecured", "unknown"
NOT_STARTED, OPEN = "not_started", "open"
DIFFERENCES = (CUT, SILENT, UNSECURED, UNKNOWN)
VERDICTS = (RECORDED, *DIFFERENCES, NOT_STARTED, OPEN)

FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# Airflow gives the next try its id before anything of it happens.
WAITING = frozenset({"", "scheduled", "queued", "up_for_retry"})
BAD_ENDS = ("cut", "gap", "torn")
_NEVER_RAN = frozenset({"upstream_failed", "removed"})
# Airflow logs these of every try; they explain nothing.
_ORDINARY = frozenset({"running", "success", "failed", "skipped", "deferred", "up_for_retry"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowTry:
    """A task try as Airflow's tables have it.

    Attributes:
        ti: Its UUID, as text; one a try.
        dag: DAG id.
        run: DAG run id.
        task: Task id.
        map_index: -1 if unmapped.
        number: From 1; 0: never scheduled.
        state: Airflow's word; empty: none yet.
        start_ms: ms since 1970 UTC; None: none. Airflow keeps an earlier try's until this starts.
        end_ms: Likewise.
        host: Where it ran last; empty: nowhere.
        noted: What Airflow's own event log says of it, such as `running`, `heartbeat timeout`.
    """

    ti: str
    dag: str
    run: str
    task: str
    map_index: int = -1
    number: int = 1
    state: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    host: str = ""
    noted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailTry:
    """What the trail has of one try.

    Attributes:
        events: How many events name it.
        is_begun: Whether one says that it began.
        is_ended: Whether one says how it ended.
        is_secured: Whether it was a secured task's.
        ends: Its emitters, with `open`, `closed`, or how the sequencer found them ended.
        unanswered: Activities that were intended, and of which no outcome is known.
    """

    events: int = 0
    is_begun: bool = False
    is_ended: bool = False
    is_secured: bool = False
    ends: Mapping[str, str] = field(default_factory=dict)
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A try with its verdict.

    Attributes:
        attempt: The try; of an unknown one, what the trail says of it.
        verdict: One of `VERDICTS`.
        because: Why, for people.
    """

    attempt: AirflowTry
    verdict: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a period came to.

    Attributes:
        from_ms: From this time on, ms since 1970 UTC.
        until_ms: Before this time.
        counts: By verdict; every verdict is there.
        ti_digest: `sha256:` of the sorted ids of all tries that Airflow knows.
        differences: Every try that is a difference.
    """

    from_ms: int
    until_ms: int
    counts: Mapping[str, int]
    ti_digest: str
    differences: tuple[Judged, ...]


def fold(events: Iterable[Mapping[str, Any]], ends: Mapping[str, str]) -> TrailTry:
    """Sum up one try's events.

    Args:
        events: All events whose `run.ti` is the try's, in any order.
        ends: How the sequencer found emitters ended, by emitter; those that ended.
    """
    count, acts = 0, set()
    emitters: dict[str, str] = {}
    intents: dict[str, str] = {}
    answered = set()
    for event in events:
        count += 1
        act, phase, emitter = (str(event.get(name)) for name in ("act", "phase", "emitter"))
        acts.add((act, phase))
        if act == "emitter.open":
            emitters.setdefault(emitter, "open")
        elif act == "emitter.close":
            emitters[emitter] = "closed"
        if phase == "intent":
            intents[f"{emitter}:{event.get('seq')}"] = act
        elif phase == "outcome":
            answered.add(event.get("of"))
    bad = {emitter: ends[emitter] for emitter in emitters if ends.get(emitter) in BAD_ENDS}
    return TrailTry(
        events=count,
        is_begun=bool(acts & {("task.start", "seen"), ("task.secure", "intent")}),
        is_ended=bool(acts & {("task.end", "seen"), ("task.secure", "outcome")}),
        is_secured=any(act == "task.secure" for act, _ in acts),
        ends={**emitters, **bad},
        unanswered=tuple(sorted(act for name, act in intents.items() if name not in answered)),
    )


def judge(
    attempt: AirflowTry, trail: TrailTry, *, is_declared: bool, now_ms: int, settle_ms: int
) -> Judged:
    """Give a try its verdict.

    Args:
        attempt: The try in Airflow's tables; none that `is_waiting`.
        trail: What the trail has of it.
        is_declared: Whether its DAG file said, when it started, that the task is secured.
        now_ms: ms since 1970 UTC.
        settle_ms: How long after its end its last events may still be on their way.
    """
    verdict, because = _verdict(attempt, trail, is_declared)
    is_ended = attempt.state in FINAL
    is_settled = attempt.end_ms is None or attempt.end_ms <= now_ms - settle_ms
    if not (is_ended and is_settled):
        verdict, because = OPEN, ""
    return Judged(attempt=attempt, verdict=verdict, because=_reason(attempt, because))


def is_waiting(attempt: AirflowTry) -> bool:
    """Whether it is no try yet, only the place of the next one."""
    return attempt.state in WAITING


def judge_unknown(attempt: AirflowTry) -> Judged:
    """The verdict on a try that is in the trail and not in Airflow's tables."""
    because = "Airflow has no such try: it was removed there, or never was"
    return Judged(attempt=attempt, verdict=UNKNOWN, because=because)


def cover(from_ms: int, until_ms: int, judged: Sequence[Judged]) -> Coverage:
    """Sum up a period."""
    counts = Counter(each.verdict for each in judged)
    known = [each.attempt.ti for each in judged if each.verdict != UNKNOWN]
    return Coverage(
        from_ms=from_ms,
        until_ms=until_ms,
        counts={verdict: counts[verdict] for verdict in VERDICTS},
        ti_digest=ti_digest(known),
        differences=tuple(each for each in judged if each.verdict in DIFFERENCES),
    )


def ti_digest(tis: Collection[str]) -> str:
    """SHA-256 over the sorted ids, each in lower case and followed by a line feed."""
    lines = "".join(f"{ti}\n" for ti in sorted({ti.lower() for ti in tis}))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _verdict(attempt: AirflowTry, trail: TrailTry, is_declared: bool) -> tuple[str, str]:
    if not trail.events:
        if not _was_started(attempt):
            return NOT_STARTED, "it was never started"
        return SILENT, "the trail has nothing of it"
    missing = _missing(trail)
    if missing:
        return CUT, missing
    if is_declared and not trail.is_secured:
        return UNSECURED, "its DAG file says it is secured, and nothing says it was"
    return RECORDED, ""


def _was_started(attempt: AirflowTry) -> bool:
    if "running" in attempt.noted:
        return True
    if attempt.state in _NEVER_RAN or not attempt.host:
        return False
    # What skips a task that does not run gives it one time for both.
    return not (attempt.state == "skipped" and attempt.start_ms == attempt.end_ms)


def _missing(trail: TrailTry) -> str:
    """What lacks of a try that the trail has events of; empty: nothing."""
    parts = []
    words = {
        "open": "did not say that it ended",
        "cut": "was cut off",
        "torn": "is torn at its end",
    }
    for emitter, end in sorted(trail.ends.items()):
        if end != "closed":
            parts.append(f"emitter {emitter} {words.get(end, 'has a gap')}")
    if trail.unanswered:
        parts.append("no outcome of " + ", ".join(trail.unanswered[:5]))
    if not trail.is_ended:
        parts.append("its end is not recorded" if trail.is_begun else "its start is not recorded")
    return "; ".join(parts)


def _reason(attempt: AirflowTry, because: str) -> str:
    noted = [word for word in dict.fromkeys(attempt.noted) if word not in _ORDINARY]
    where = f" on {attempt.host}" if attempt.host else ""
    parts = [f"Airflow: {attempt.state or 'no state'}{where}", *noted, because]
    return "; ".join(part for part in parts if part)
