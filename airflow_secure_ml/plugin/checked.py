"""What the reconciler's last check says of a run, for its coverage line.

Pure. The page counts a run's tries by itself, as they are now; this names the leaf that says they
were checked, and which differences it left.

Source: AUDIT_TRAIL, "Was everything recorded?": the page names its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.plugin.lanes import Try
from airflow_secure_ml.plugin.views import When, when
from airflow_secure_ml.plugin.wording import fields, plain
from airflow_secure_ml.services.coverage import DIFFERENCES
from airflow_secure_ml.services.coverage_alerts import COVERAGE, still_raised


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """A check that came after a run's last try.

    Attributes:
        event: The name of its coverage.check.
        at: Until when it looked.
        source: Where it had Airflow's side from.
        differences: What it alerted about and is not over, such as `2 cut`.
    """

    event: str
    at: When
    source: str
    differences: tuple[str, ...]


def checked_run(
    checks: Iterable[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]],
    tries: Sequence[Try],
) -> CheckedRun | None:
    """The newest check of a run; None: none came after its last try.

    Args:
        checks: The newest coverage.check events.
        events: The run's own events, oldest first; its alerts are among them.
        tries: Airflow's tries of the run.
    """
    times = [ms for each in tries for ms in (each.start_ms, each.end_ms) if ms is not None]
    found = None
    for check in checks:
        until = fields(check, "more").get("until_ms")
        if isinstance(until, int) and (found is None or until > found[0]):
            found = (until, check)
    if found is None or not times or found[0] <= max(times):
        return None
    until_ms, check = found
    alerts = (event for event in events if event.get("act") in ("alert.raise", "alert.close"))
    raised = still_raised(alerts)
    counts = {kind: len(raised.get(COVERAGE + kind, {})) for kind in DIFFERENCES}
    return CheckedRun(
        event=name_of(check),
        at=when(until_ms),
        source=plain(fields(check, "more").get("source", "?")),
        differences=tuple(f"{count} {kind}" for kind, count in counts.items() if count),
    )
