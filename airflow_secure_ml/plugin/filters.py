"""Read and write the filter box: `dag:churn status:refused after:2026-11-01 some words`.

Pure: what the words mean is decided here, what they find is the store's business. A word that is
not understood is a problem that is shown, never one that is skipped: half a filter would mislead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_secure_ml.core.audit.query import EventQuery

FIELDS = (
    "dag", "run", "task", "ti", "status", "act", "object", "key", "emitter", "after", "before",
    "show",
)  # fmt: skip
STATUSES = {
    "allowed": "ok",
    "ok": "ok",
    "refused": "refused",
    "failed": "failed",
    "unknown": "unknown",
    "intent": "intent",
}
# What the log says of itself is left out unless it is asked for: it would bury the rest.
EVERYTHING = "everything"
DEFAULT_ACTS = (
    "task.", "rule.", "object.", "scratch.", "lease.", "secret.", "xcom.", "key.", "run.", "user.",
    "coverage.", "alert.", "emitter.loss", "trail.refused", "trail.key", "trail.adopt",
    "trail.verify", "trail.view", "trail.export", "trail.prune", "trail.hold", "trail.erase",
)  # fmt: skip
MAX_FILTER_CHARS = 2000

_TOKEN = re.compile(
    r'(?:(?P<field>-?[a-z]+):(?!//))?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>\S+))'
)
_AGO = re.compile(r"([0-9]{1,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One word of a filter.

    Attributes:
        field: One of FIELDS; empty for a word to search for.
        value: What stands behind the colon, without quotes.
    """

    field: str
    value: str

    def __str__(self) -> str:
        value = self.value
        if not value or re.search(r'[\s"\\]', value) or (not self.field and ":" in value):
            value = '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
        return f"{self.field}:{value}" if self.field else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter as the box shows it and as the store takes it.

    Attributes:
        text: The box's content.
        tokens: Its words.
        query: What to ask the store; meaningless if there are problems.
        problems: What was not understood, as sentences for the reader.
    """

    text: str
    tokens: tuple[Token, ...]
    query: EventQuery
    problems: tuple[str, ...]

    def narrowed(self, field: str, value: str) -> str:
        """The box's content with `field` set to `value`, in place of what it said before."""
        kept = [token for token in self.tokens if token.field != field]
        return _join([*kept, Token(field=field, value=value)])

    def without(self, field: str) -> str:
        """The box's content without `field`."""
        return _join(token for token in self.tokens if token.field != field)

    def value(self, field: str) -> str:
        """The last value given for `field`; empty if none."""
        values = [token.value for token in self.tokens if token.field == field]
        return values[-1] if values else ""


def _join(tokens: Iterable[Token]) -> str:
    return " ".join(str(token) for token in tokens)


def parse_filter(text: str, *, now: datetime) -> Filter:
    """Read the filter box.

    Args:
        text: What was typed; only the first MAX_FILTER_CHARS characters count.
        now: The moment that `after:7d` counts back from, UTC.

    Returns:
        The filter; look at `problems` before using `query`.
    """
    text = text[:MAX_FILTER_CHARS].strip()
    tokens, problems = _tokens(text)
    single: dict[str, str] = {}
    times: dict[str, int] = {}
    acts: list[str] = []
    results: list[str] = []
    words: list[str] = []
    for token in tokens:
        match token.field:
            case "":
                words.append(token.value)
            case "act":
                acts.append(token.value.removesuffix("*"))
            case "show" if token.value == EVERYTHING:
                single["show"] = EVERYTHING
            case "show":
                problems.append(f"{token}: there is only show:{EVERYTHING}")
            case "status" if token.value in STATUSES:
                results.append(STATUSES[token.value])
            case "status":
                problems.append(f"status:{token.value}: a status is one of {', '.join(STATUSES)}")
            case "after" | "before":
                moment = _moment(token.value, now)
                if moment is None:
                    problems.append(f"{token}: a time is 2026-11-01, 2026-11-01T12:30 or 7d, UTC")
                else:
                    times[token.field] = moment
            case field if field in single:
                problems.append(f"{field} is given twice")
            case field:
                single[field] = token.value
    shows_all = bool(single.keys() & {"show", "emitter"})
    query = EventQuery(
        dag=single.get("dag"),
        run=single.get("run"),
        task=single.get("task"),
        ti=single.get("ti"),
        uri=single.get("object"),
        key=single.get("key"),
        emitter=single.get("emitter"),
        acts=tuple(acts) or (() if shows_all else DEFAULT_ACTS),
        results=tuple(results),
        text=" ".join(words) or None,
        from_ms=times.get("after"),
        until_ms=times.get("before"),
    )
    return Filter(text=text, tokens=tuple(tokens), query=query, problems=tuple(problems))


def _tokens(text: str) -> tuple[list[Token], list[str]]:
    tokens: list[Token] = []
    problems: list[str] = []
    for found in _TOKEN.finditer(text):
        field = found["field"] or ""
        quoted = found["quoted"]
        value = found["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if field and field not in FIELDS:
            problems.append(f'"{field}:" is not a field; fields are {", ".join(FIELDS)}')
        else:
            tokens.append(Token(field=field, value=value))
    return tokens, problems


def _moment(value: str, now: datetime) -> int | None:
    """Milliseconds since 1970 UTC; None if `value` is not a time."""
    ago = _AGO.fullmatch(value)
    if ago:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
