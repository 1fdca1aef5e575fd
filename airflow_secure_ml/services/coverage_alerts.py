"""Which alerts a coverage check raises and closes, by what the trail already says.

The trail is the memory: an alert names the tries it is about, so a try is alerted about once for
each kind of difference, and never silently forgotten.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.services.coverage import (
    DIFFERENCES,
    OPEN,
    UNKNOWN,
    AirflowTry,
    Judged,
)

COVERAGE, EMITTER = "coverage.", "emitter."
# 37 bytes each in an event of 32768.
NAMES_AN_EVENT = 200

Raised = Mapping[str, Mapping[str, RunRef]]


def still_raised(alerts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, RunRef]]:
    """What is alerted about: by kind, tries or emitters, each with the run it was filed under.

    Args:
        alerts: Every alert.raise and alert.close of the trail, oldest first.
    """
    found: dict[str, dict[str, RunRef]] = {}
    for event in alerts:
        more = event.get("more")
        about = more.get("about") if isinstance(more, Mapping) else None
        if not isinstance(about, str) or not about.startswith((COVERAGE, EMITTER)):
            continue
        names = [
            name
            for part in ("tis", "emitters")
            for name in _listed(more, part)
            if isinstance(name, str)
        ]
        raised = found.setdefault(about, {})
        for name in names:
            if event.get("act") == "alert.raise":
                raised[name] = _run(event.get("run"))
            else:
                raised.pop(name, None)
    return found


def alerts_due(judged: Sequence[Judged], raised: Raised) -> Iterator[Fact]:
    """The alerts that are new, one for a kind of difference in a DAG run, and those that are over.

    Args:
        judged: Tries with their verdicts: the period's, and those alerted about before.
        raised: What `still_raised` gave.
    """
    for kind in DIFFERENCES:
        about = COVERAGE + kind
        known = raised.get(about, {})
        new = [each for each in judged if each.verdict == kind and each.attempt.ti not in known]
        yield from _facts("alert.raise", about, _by_run(new))
        # Removing a try from Airflow does not mend what was missing of it.
        stays = (kind, OPEN, UNKNOWN)
        over = [e for e in judged if e.verdict not in stays and e.attempt.ti in known]
        yield from _facts("alert.close", about, _by_run(over, known))


def emitter_alerts(bad: Mapping[str, str], raised: Raised) -> Iterator[Fact]:
    """An alert for each way in which emitters ended badly.

    Args:
        bad: How they ended, by emitter: `cut`, `gap` or `torn`.
        raised: What `still_raised` gave.
    """
    for end in sorted(set(bad.values())):
        about = EMITTER + end
        new = sorted(
            name
            for name, found in bad.items()
            if found == end and name not in raised.get(about, {})
        )
        for names in _portions(new):
            because = "its process ended without a last word" if end == "cut" else "events are lost"
            more = {
                "about": about,
                "subject": _named(names),
                "because": because,
                "emitters": list(names),
            }
            yield Fact(act="alert.raise", phase="seen", result="ok", more=more)


def _by_run(
    judged: Collection[Judged], filed: Mapping[str, RunRef] | None = None
) -> dict[RunRef, list[Judged]]:
    groups: dict[RunRef, list[Judged]] = {}
    for each in judged:
        run = RunRef(dag=each.attempt.dag, run=each.attempt.run)
        groups.setdefault((filed or {}).get(each.attempt.ti, run), []).append(each)
    return groups


def _facts(act: str, about: str, groups: Mapping[RunRef, Sequence[Judged]]) -> Iterator[Fact]:
    for run, group in groups.items():
        for part in _portions(group):
            reasons = dict.fromkeys(f"{_label(e.attempt)}: {e.verdict}, {e.because}" for e in part)
            more = {
                "about": about,
                "subject": _named([_label(each.attempt) for each in part]),
                "because": " | ".join(list(reasons)[:3])[:250],
                "tis": [each.attempt.ti for each in part],
            }
            # A DAG's id may be missing where the trail's own event had none to show.
            owner = run if run.dag else None
            yield Fact(act=act, phase="seen", result="ok", run=owner, more=more)


def _label(attempt: AirflowTry) -> str:
    mapped = f"[{attempt.map_index}]" if attempt.map_index >= 0 else ""
    return f"{attempt.task}{mapped} try {attempt.number}"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])[:200]
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _portions(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(found), NAMES_AN_EVENT):
        yield found[start : start + NAMES_AN_EVENT]


def _run(found: object) -> RunRef:
    if not isinstance(found, Mapping):
        return RunRef(dag="", run="")
    dag, run = found.get("dag"), found.get("run")
    return RunRef(dag=dag if isinstance(dag, str) else "", run=run if isinstance(run, str) else "")


def _listed(more: object, part: str) -> Sequence[Any]:
    found = more.get(part) if isinstance(more, Mapping) else None
    return found if isinstance(found, list) else ()
