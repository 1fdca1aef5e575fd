"""Which alerts a comparison with a key system's log raises: each use once, whoever asks again.

The trail is the memory: an alert names the uses it is about.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.services.key_usage_agreement import UNASKED, UNRECORDED, Agreement

ABOUT = "vault."
# Some 50 bytes each in an event of 32768.
NAMES_AN_EVENT = 200
# A log of somebody else would fill the trail.
MAX_NAMED = 1000
_BECAUSE = {
    UNRECORDED: "Vault's log has uses that the trail does not have",
    UNASKED: "the trail has uses that Vault's log does not have",
}


def alerts_due(found: Agreement, alerts: Iterable[Mapping[str, Any]], by: str) -> Iterator[Fact]:
    """The alerts that are new, one for a kind of difference, in parts if it has many uses.

    Args:
        found: What was compared.
        alerts: Every alert.raise of the trail.
        by: Who compared.
    """
    known = _named(alerts)
    there = {
        f"{use.request or use.time_ms}": f"{use.kind} {use.about} from {use.remote}"
        for use in found.unrecorded
    }
    here = {each.event: f"{each.kind} {each.about}" for each in found.unasked}
    for kind, uses in ((UNRECORDED, there), (UNASKED, here)):
        new = [name for name in uses if name not in known.get(ABOUT + kind, ())]
        for start in range(0, min(len(new), MAX_NAMED), NAMES_AN_EVENT):
            part = new[start : min(start + NAMES_AN_EVENT, MAX_NAMED)]
            more = {
                "about": ABOUT + kind,
                "subject": _subject([uses[name] for name in part], len(new)),
                "because": _BECAUSE[kind],
                "uses": part,
            }
            yield Fact(act="alert.raise", phase="seen", result="ok", more=more, by=by)


def _named(alerts: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in alerts:
        more = event.get("more")
        uses = more.get("uses") if isinstance(more, Mapping) else None
        if isinstance(more, Mapping) and isinstance(uses, list):
            found.setdefault(str(more.get("about")), set()).update(map(str, uses))
    return found


def _subject(words: Sequence[str], total: int) -> str:
    shown = list(dict.fromkeys(words))[:3]
    more = f" and others, {total} uses" if total > len(shown) else ""
    return ", ".join(shown)[:300] + more
