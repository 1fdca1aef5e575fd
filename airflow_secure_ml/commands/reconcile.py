"""`audit reconcile`: hold Airflow's task tries against the trail, once or again and again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import DONE, Result
from airflow_secure_ml.commands.session import Session, user_name
from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_secure_ml.reconciling.rounds import Checked

INCOMPLETE = 4
_AGO = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_LINES = 200


def reconcile(arguments: argparse.Namespace, session: Session) -> Result:
    """Check one period, or rounds until stopped."""
    now = datetime.now(UTC)
    since, until = (parse_time(text, now) for text in (arguments.since, arguments.until))
    if arguments.every_s is not None:
        return _again(arguments.every_s, is_period=since is not None or until is not None)
    # Imported here: with it comes Airflow, for this command alone.
    from airflow_secure_ml.reconciling.program import run_round

    with Progress(None, in_words=lambda count: f"{count:.0f} tries") as progress:
        results = run_round(since, until, program="cli", by=user_name(), watch=progress)
    status = DONE if all(each.is_whole for each in results) else INCOMPLETE
    data = [_as_data(each) for each in results]
    return Result(data={"periods": data, "status": status}, lines=[*_lines(results)], status=status)


def _again(every_s: int, *, is_period: bool) -> Result:
    from airflow_secure_ml.reconciling.program import serve

    if is_period or not 1 <= every_s <= 86_400:
        raise ConfigurationError(
            f"--every-s {every_s}: expected 1 to 86400 seconds, without --since and --until"
        )
    status = serve(every_s)
    return Result(data={"status": status}, lines=[], status=status)


def parse_time(text: str | None, now: datetime) -> int | None:
    """ms since 1970 UTC of what a person typed; without a zone it is UTC."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            found = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            found = datetime.fromisoformat(text)
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return round(found.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{text[:60]!r}: expected a time such as 2026-11-22T03:00Z, or 90m, 24h, 7d ago"
        ) from error


def _as_data(checked: Checked) -> dict[str, Any]:
    coverage = checked.coverage
    return {
        "from_ms": coverage.from_ms,
        "until_ms": coverage.until_ms,
        "counts": dict(coverage.counts),
        "ti_digest": coverage.ti_digest,
        "differences": [
            {
                **{"ti": each.attempt.ti, "dag": each.attempt.dag, "run": each.attempt.run},
                **{"task": each.attempt.task, "map": each.attempt.map_index},
                **{"try": each.attempt.number, "state": each.attempt.state},
                **{"verdict": each.verdict, "because": each.because},
            }
            for each in coverage.differences
        ],
        "emitters": [asdict(each) for each in checked.emitters],
        **{"raised": checked.raised, "closed": checked.closed, "user_acts": checked.acts},
    }


def _lines(results: Sequence[Checked]) -> Iterator[str]:
    if not results:
        yield "the audit log has no event yet; there is nothing to hold against"
    left = _MAX_LINES
    for each in results:
        coverage, counts = each.coverage, each.coverage.counts
        tried = sum(counts[name] for name in ("recorded", "cut", "silent", "unsecured"))
        yield (
            f"{_when(coverage.from_ms)} to {_when(coverage.until_ms)}: {counts['recorded']} of "
            f"{tried} tries recorded, {counts['cut']} cut, {counts['silent']} silent, "
            f"{counts['unsecured']} unsecured; {counts['unknown']} unknown to Airflow, "
            f"{counts['not_started']} not started, {counts['open']} under way"
        )
        named = [_difference_line(found) for found in coverage.differences]
        named += [
            f"  emitter    {e.emitter} ended {e.end}  {e.program} {e.host}".rstrip()
            for e in each.emitters
        ]
        yield from named[:left]
        if len(named) > left:
            yield f"  … and {len(named) - left} more; --json has all"
        left = max(left - len(named), 0)
        yield (
            f"alerts: {each.raised} raised, {each.closed} closed; acts of people taken over: "
            f"{each.acts}"
        )


def _difference_line(found: Any) -> str:
    attempt = found.attempt
    mapped = f"[{attempt.map_index}]" if attempt.map_index >= 0 else ""
    name = f"{attempt.dag}.{attempt.task}{mapped} try {attempt.number}"
    return f"  {found.verdict:<9}  {name}  {attempt.run}  {found.because}"


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
