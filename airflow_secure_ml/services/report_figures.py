"""What a security report counts, in words of the Events page's filter, and what those words ask.

A filter without an activity asks for everything, what the log says of itself as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import ConfigurationError

DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RESULTS = {"allowed": "ok", "refused": "refused", "failed": "failed", "unknown": "unknown"}
# A task that is refused says so once more when it ends: counted here, each refusal would be two.
REFUSED = "status:refused -act:task.secure"
# (label, words of the filter, tone); a filter without an activity asks for everything.
HEADLINE = (
    ("events", "", ""),
    ("allowed", "status:allowed", ""),
    ("refused", REFUSED, "bad"),
    ("failed", "status:failed -act:task.secure", "bad"),
    ("outcome unknown", "status:unknown", "look"),
)
SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Data",
        (
            ("objects opened", "act:object.open status:allowed", ""),
            ("openings refused", "act:object.open status:refused", "bad"),
            ("signatures and digests verified", "act:object.verify status:allowed", ""),
            ("signatures and digests refused", "act:object.verify status:refused", "bad"),
            ("objects sealed", "act:object.seal status:allowed", ""),
            ("objects published", "act:object.publish status:allowed", ""),
            ("data sets shredded", "act:dataset.shred status:allowed", ""),
        ),
    ),
    (
        "Secured tasks",
        (
            ("ended well", "act:task.secure status:allowed", ""),
            ("refused", "act:task.secure status:refused", "bad"),
            ("failed", "act:task.secure status:failed", "bad"),
        ),
    ),
    (
        "Validation",
        (
            ("data sets that passed", "act:object.validate status:allowed", ""),
            ("failed their expectations", "act:object.validate status:refused", "bad"),
            ("could not be checked", "act:object.validate status:failed", "look"),
            ("rows sealed aside", "act:object.quarantine status:allowed", ""),
        ),
    ),
    (
        "Keys",
        (
            ("created or trusted", "act:key.create status:allowed", ""),
            ("rotated", "act:key.rotate status:allowed", ""),
            ("disabled", "act:key.disable status:allowed", ""),
            ("destroyed", "act:key.destroy status:allowed", "look"),
            ("refused or failed", "act:key. status:refused status:failed", "bad"),
        ),
    ),
    (
        "Credentials and secrets",
        (
            ("leases granted", "act:lease.grant status:allowed", ""),
            ("leases ended", "act:lease.revoke status:allowed", ""),
            ("leases that could not be ended", "act:lease.revoke status:failed", "bad"),
            ("secrets looked up", "act:secret.read status:allowed", ""),
            ("look-ups refused", "act:secret.read status:refused", "bad"),
        ),
    ),
    (
        "People in Airflow",
        (
            ("acts", "act:user.act status:allowed", ""),
            ("denied", "act:user.act status:refused", "bad"),
        ),
    ),
    (
        "The audit system itself",
        (
            ("looked at who did it", "act:trail.view", ""),
            ("exported from it", "act:trail.export status:allowed", "look"),
            ("checked, whole", "act:trail.verify status:allowed", ""),
            ("checked, and not whole", "act:trail.verify status:failed", "bad"),
            ("pruned", "act:trail.prune status:allowed", "look"),
            ("erased hidden values", "act:trail.erase status:allowed", "look"),
            ("changed its signing key", "act:trail.key act:trail.adopt", "look"),
        ),
    ),
    (
        "Alerts and reviews",
        (
            ("alerts raised", "act:alert.raise", "look"),
            ("alerts acknowledged", "act:alert.acknowledge", ""),
            ("alerts closed", "act:alert.close", ""),
            ("reviews given out", "act:review.assign", ""),
            ("reviews signed off", "act:review.sign", ""),
        ),
    ),
    (
        "Recording",
        (
            ("times events were lost", "act:emitter.loss", "bad"),
            ("events refused by the sequencer", "act:trail.refused", "bad"),
            ("checks of coverage", "act:coverage.check", ""),
        ),
    ),
)


def query_of(words: str, *, from_ms: int, until_ms: int) -> EventQuery:
    """The query that a filter of this module stands for.

    Args:
        words: `act:…`, `-act:…`, `status:…`, `dag:…` and words to search for; without `act:`,
            everything.
        from_ms: From this time on, ms since 1970 UTC.
        until_ms: Before this time.
    """
    query = EventQuery(from_ms=from_ms, until_ms=until_ms)
    texts: list[str] = []
    for word in words.split():
        name, _, value = word.partition(":")
        if name == "act":
            query = replace(query, acts=(*query.acts, value))
        elif name == "status":
            query = replace(query, results=(*query.results, _RESULTS[value]))
        elif name == "-act":
            query = replace(query, excluded=(*query.excluded, ("act", value)))
        elif name == "dag":
            query = replace(query, dag=value)
        else:
            texts.append(word)
    return replace(query, text=" ".join(texts) or None)


def count_of(words: str, kinds: Mapping[tuple[str, str], int]) -> int:
    """How many events the words find among counted kinds, if they name only these.

    Args:
        words: `act:…`, `-act:…` and `status:…`.
        kinds: Number of events by (activity, result), `intent` where there is no result.
    """
    query = query_of(words, from_ms=0, until_ms=1)
    left_out = {value for _, value in query.excluded}
    return sum(
        number
        for (act, result), number in kinds.items()
        if act not in left_out
        and (not query.results or result in query.results)
        and (not query.acts or any(_is_of(act, wanted) for wanted in query.acts))
    )


def _is_of(act: str, wanted: str) -> bool:
    return act.startswith(wanted) if wanted.endswith(".") else act == wanted


def filter_of(words: str, *, from_ms: int, until_ms: int) -> str:
    """The same as the Events page's box has it."""
    everything = "" if re.search(r"(^| )act:", words) else "show:everything"
    parts = (words, everything, f"after:{stamp(from_ms)}", f"before:{stamp(until_ms)}")
    return " ".join(part for part in parts if part)


def stamp(ms: int) -> str:
    """A moment as `after:` and `before:` take it, as short as it can be said.

    Args:
        ms: Milliseconds since 1970 UTC, in the years 1 to 9999.
    """
    moment = _EPOCH + timedelta(milliseconds=ms)
    if ms % DAY_MS == 0:
        return moment.date().isoformat()
    if ms % 60_000 == 0:
        return moment.isoformat(timespec="minutes")[:-6]
    return moment.isoformat(timespec="seconds" if ms % 1000 == 0 else "milliseconds")[:-6]


def whole_period_before(kind: str, moment_ms: int) -> tuple[int, int]:
    """The last whole day, week (from Monday) or month that was over at a moment, UTC.

    Args:
        kind: `day`, `week` or `month`.
        moment_ms: The moment, ms since 1970 UTC.

    Returns:
        Its first ms, and the first one after it.

    Raises:
        ConfigurationError: Another word.
    """
    today = datetime.fromtimestamp(moment_ms // 1000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if kind == "day":
        end, begin = today, today - timedelta(days=1)
    elif kind == "week":
        end = today - timedelta(days=today.weekday())
        begin = end - timedelta(days=7)
    elif kind == "month":
        end = today.replace(day=1)
        begin = (end - timedelta(days=1)).replace(day=1)
    else:
        raise ConfigurationError(f"period: expected day, week or month, found {str(kind)[:40]!r}")
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000
