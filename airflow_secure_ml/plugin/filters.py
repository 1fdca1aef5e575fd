"""Read the filter box: `dag:churn -status:refused after:2026-11-01 some words`.

Pure: what the words mean is decided here, what they find is the store's business. A word that is
not understood is a problem that is shown in its place, never one that is skipped: half a filter
would mislead.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin.filter_words import (
    Part,
    Problem,
    Token,
    cleaned,
    joined,
    parts,
    words,
)

# Field: what the store calls it. Each holds one value; a second one would match nothing.
SINGLE = {
    "dag": "dag",
    "run": "run",
    "task": "task",
    "ti": "ti",
    "object": "uri",
    "digest": "digest",
    "key": "key",
    "version": "version",
    "lease": "lease",
    "by": "by",
    "host": "host",
    "emitter": "emitter",
    "of": "of",
}
FIELDS = (
    "dag", "task", "run", "status", "act", "object", "key", "version", "digest", "lease", "by",
    "host", "emitter", "ti", "of", "after", "before", "show",
)  # fmt: skip
NEVER_EXCLUDED = ("after", "before", "show", "version")
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
    "coverage.", "alert.", "review.", "emitter.loss", "trail.refused", "trail.key", "trail.adopt",
    "trail.verify", "trail.view", "trail.export", "trail.prune", "trail.hold", "trail.erase",
)  # fmt: skip

_AGO = re.compile(r"([0-9]{1,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FOREVER = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter as the box shows it and as the store takes it.

    Attributes:
        text: The box's content.
        tokens: Its words.
        query: What to ask the store; meaningless if there are problems.
        problems: What was not understood, in the order of the box.
    """

    text: str
    tokens: tuple[Token, ...]
    query: EventQuery
    problems: tuple[Problem, ...]

    def narrowed(self, *pairs: tuple[str, str]) -> str:
        """The box's content with each field set to its value, in place of what it said before."""
        fields = [field for field, _ in pairs]
        kept = [
            token
            for token in self.tokens
            if (token.field not in fields or token.is_excluded)
            and (token.field, token.value) not in pairs
        ]
        return joined([*kept, *(Token(field=field, value=value) for field, value in pairs)])

    def excluding(self, field: str, value: str) -> str:
        """The box's content with events left out whose `field` is `value`."""
        return joined([*self._but(field, value), Token(field=field, value=value, is_excluded=True)])

    def including(self, field: str, value: str) -> str:
        """The box's content that no longer leaves out events whose `field` is `value`."""
        return joined(self._but(field, value))

    def cleared(self, *fields: str) -> str:
        """The box's content that says nothing of these fields."""
        return joined(token for token in self.tokens if token.field not in fields)

    def without(self, *fields: str) -> str:
        """The box's content without what these fields must be."""
        return joined(
            token for token in self.tokens if token.is_excluded or token.field not in fields
        )

    def between(self, after: str, before: str) -> str:
        """The box's content for another time, in place of what it said before."""
        kept = [token for token in self.tokens if token.field not in ("after", "before")]
        times = [Token(field=name, value=value) for name, value in
                 (("after", after), ("before", before)) if value]  # fmt: skip
        return joined([*kept, *times])

    def value(self, field: str) -> str:
        """The last value that `field` must have; empty if any."""
        return (self._values(field, is_excluded=False) or ("",))[-1]

    def excluded(self, field: str) -> tuple[str, ...]:
        """The values that `field` must not have."""
        return self._values(field, is_excluded=True)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The box's content in pieces, those with a problem apart."""
        return parts(self.text, self.problems)

    def _values(self, field: str, *, is_excluded: bool) -> tuple[str, ...]:
        return tuple(
            token.value
            for token in self.tokens
            if token.field == field and token.is_excluded == is_excluded
        )

    def _but(self, field: str, value: str) -> list[Token]:
        return [token for token in self.tokens if (token.field, token.value) != (field, value)]


def parse_filter(text: str, *, now: datetime) -> Filter:
    """Read the filter box.

    Args:
        text: What was typed; only the first MAX_FILTER_CHARS characters count.
        now: The moment that `after:7d` counts back from, UTC.

    Returns:
        The filter; look at `problems` before using `query`.
    """
    text = cleaned(text)
    tokens, problems = words(text)
    meaning = _Meaning(text=text, now=now, problems=problems)
    for token in tokens:
        meaning.read(token)
    if "version" in meaning.single and "key" not in meaning.single:
        meaning.wrong(meaning.seen["version"], "which key's version? say key:name as well")
    return Filter(
        text=text,
        tokens=tuple(tokens),
        query=meaning.query(),
        problems=tuple(sorted(problems, key=lambda problem: problem.start)),
    )


@dataclass(slots=True, kw_only=True)
class _Meaning:
    """What the words read so far ask for."""

    text: str
    now: datetime
    problems: list[Problem]
    single: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Token] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    acts: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def read(self, token: Token) -> None:
        if not token.field:
            self._word(token)
        elif token.field not in FIELDS:
            self._unknown(token)
        elif token.is_excluded:
            self._exclude(token)
        elif token.field == "act":
            self.acts.append(token.value.removesuffix("*"))
        elif token.field == "status":
            self._status(token)
        elif token.field in ("after", "before"):
            self._time(token)
        elif token.field == "show" and token.value != EVERYTHING:
            self.wrong(token, f"there is only show:{EVERYTHING}", f"show:{EVERYTHING}")
        elif token.field in self.single:
            self.wrong(token, f"{token.field} is given twice; an event has only one")
        else:
            self.single[token.field] = token.value
            self.seen[token.field] = token

    def wrong(self, token: Token, text: str, instead: str = "") -> None:
        """Note a problem with a word; `instead` is the word that was perhaps meant."""
        whole = self.text[: token.start] + instead + self.text[token.stop :] if instead else ""
        self.problems.append(Problem(text=text, start=token.start, stop=token.stop, instead=whole))

    def query(self) -> EventQuery:
        shows_all = bool(self.single.keys() & {"show", "emitter", "of"})
        named: dict[str, Any] = {
            store: self.single[name] for name, store in SINGLE.items() if name in self.single
        }
        return EventQuery(
            **named,
            acts=tuple(self.acts) or (() if shows_all else DEFAULT_ACTS),
            results=tuple(self.results),
            excluded=tuple(self.excluded),
            text=" ".join(self.words) or None,
            from_ms=self.times.get("after"),
            until_ms=self.times.get("before"),
        )

    def _word(self, token: Token) -> None:
        name = token.value.removesuffix(":").removeprefix("-")
        is_bare = self.text[token.start : token.stop] == token.value
        if is_bare and token.value.endswith(":") and name in FIELDS:
            self.wrong(token, f"{token.value} says no value; write it without a space")
        else:
            self.words.append(token.value)

    def _unknown(self, token: Token) -> None:
        near = difflib.get_close_matches(token.field, FIELDS, n=1)
        meant = [replace(token, field=name) for name in near]
        known = f"did you mean {near[0]}?" if near else f"fields are {', '.join(FIELDS)}"
        said = f'"{token.field}:" is not a field; {known}'
        self.wrong(token, said, joined(meant))

    def _exclude(self, token: Token) -> None:
        if token.field in NEVER_EXCLUDED:
            self.wrong(token, f"{token.field} cannot be left out; take the - away", str(token)[1:])
        elif token.field == "status":
            if token.value in STATUSES:
                self.excluded.append(("result", STATUSES[token.value]))
            else:
                self._no_status(token)
        elif token.field == "act":
            self.excluded.append(("act", token.value.removesuffix("*")))
        else:
            self.excluded.append((SINGLE[token.field], token.value))

    def _status(self, token: Token) -> None:
        if token.value in STATUSES:
            self.results.append(STATUSES[token.value])
        else:
            self._no_status(token)

    def _no_status(self, token: Token) -> None:
        meant = [
            replace(token, value=value)
            for value in difflib.get_close_matches(token.value, STATUSES, n=1)
        ]
        self.wrong(token, f"a status is one of {', '.join(STATUSES)}", joined(meant))

    def _time(self, token: Token) -> None:
        moment = _moment(token.value, self.now)
        if token.field in self.times:
            self.wrong(token, f"{token.field} is given twice")
        elif moment is None:
            self.wrong(token, "a time is 2026-11-01, 2026-11-01T12:30 or 7d, in UTC")
        else:
            self.times[token.field] = moment
            if not self.times.get("after", -_FOREVER) < self.times.get("before", _FOREVER):
                self.wrong(token, "before is not later than after, so nothing can match")


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
    return (moment - _EPOCH) // _MILLISECOND
