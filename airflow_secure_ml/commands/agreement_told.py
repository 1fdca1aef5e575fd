"""What `audit compare-vault` says of what it found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.adapters.vault.audit_device import LogTally
from airflow_secure_ml.core.audit.outside_use import OutsideUse
from airflow_secure_ml.services.key_usage_agreement import Agreement, by_key
from airflow_secure_ml.services.recorded_uses import RecordedUse

_WORDS = {0: "agree", 4: "DIFFERENT", 5: "cannot tell"}
_MAX_LINES = 200
_HOUR_MS = 3_600_000


def as_data(found: Agreement, tally: LogTally) -> dict[str, Any]:
    """All of it."""
    from_ms, until_ms = found.period.both
    return {
        "verdict": _WORDS[found.status],
        "from_ms": from_ms,
        "until_ms": until_ms,
        "matched": found.matched,
        "unrecorded": [asdict(use) for use in found.unrecorded],
        "unasked": [asdict(each) for each in found.unasked],
        "unknown": [{**asdict(each), "because": because} for each, because in found.unsure],
        "doubts": list(found.doubts),
        "hours": [
            {"kind": kind, "about": about, "hour_ms": hour * _HOUR_MS, "vault": n, "trail": m}
            for (kind, about, hour), (n, m) in sorted(found.counts.items())
        ],
        "refused": _counted(found.refused),
        "not_compared": _counted(found.others),
        "log": asdict(tally),
    }


def as_lines(found: Agreement, tally: LogTally) -> list[str]:
    """What a person reads first; names are cut off after some."""
    from_ms, until_ms = found.period.both
    head = (
        f"Vault's log and the trail: {_WORDS[found.status]}, {_when(from_ms)} to "
        f"{_when(until_ms)}: {found.matched} uses in both, {len(found.unrecorded)} only in "
        f"Vault's log, {len(found.unasked)} only in the trail, {len(found.unsure)} unknown"
    )
    named = [*_named(found)]
    left = [f"  … and {len(named) - _MAX_LINES} more; --json has all"]
    return [
        head,
        *(f"  cannot tell: {doubt}" for doubt in found.doubts),
        *named[:_MAX_LINES],
        *(left if len(named) > _MAX_LINES else ()),
        *_counts(found),
        *_besides(found, tally),
    ]


def _named(found: Agreement) -> Iterator[str]:
    for use in found.unrecorded:
        yield f"  only in Vault's log  {_use(use)}"
    for each in found.unasked:
        yield f"  only in the trail    {_act(each)}"
    for one, because in found.unsure:
        told = _use(one) if isinstance(one, OutsideUse) else _act(one)
        yield f"  unknown              {told}; {because}"


def _use(use: OutsideUse) -> str:
    version = f" version {use.version}" if use.version else ""
    return (
        f"{_when(use.time_ms)}  {use.kind} {use.about}{version}  request {use.request}  token "
        f"{use.display_name or '?'} {use.accessor}  from {use.remote or '?'}"
    )


def _act(each: RecordedUse) -> str:
    version = f" version {each.version}" if each.version else ""
    return (
        f"{_when(each.to_ms)}  {each.act} {each.about}{version}  event {each.event}  {each.run}"
    ).rstrip()


def _counts(found: Agreement) -> Iterator[str]:
    differ = [each for each, (n, m) in by_key(found.counts).items() if n != m]
    for kind, about in differ[:_MAX_LINES]:
        there, here = by_key(found.counts)[kind, about]
        yield f"  {kind} {about}: {there} in Vault's log, {here} in the trail"


def _besides(found: Agreement, tally: LogTally) -> Iterator[str]:
    if tally.is_cut:
        yield "  the log ends within a line, as one that is being written does"
    if tally.elsewhere:
        yield f"  not compared: {tally.elsewhere} entries of other namespaces"
    for words, counted in (("not compared", found.others), ("refused by Vault", found.refused)):
        for (kind, about), count in counted.most_common(20):
            yield f"  {words}: {kind} {about} {count}"


def _counted(counts: Any) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "about": about, "uses": count}
        for (kind, about), count in sorted(counts.items())
    ]


def _when(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
