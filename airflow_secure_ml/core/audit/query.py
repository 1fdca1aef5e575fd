"""What a reader of the audit log asks for, and what it gets: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_secure_ml.errors import FormatError

MAX_BARS = 500
# What an event is searched by; the name of `EventQuery`'s attribute but for act and result.
QueryField = Literal[
    "dag", "run", "task", "ti", "act", "result", "uri", "digest", "key", "version", "lease",
    "emitter", "host", "of", "by", "text",
]  # fmt: skip
# What `AuditStore.values` counts.
ValueField = Literal["dag", "task", "act", "result", "uri", "key", "emitter", "by"]
QUERY_FIELDS: frozenset[str] = frozenset(get_args(QueryField))
VALUE_FIELDS: frozenset[str] = frozenset(get_args(ValueField))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One leaf of the log.

    Attributes:
        index: Its place, from 0.
        data: The event's bytes, exactly as the emitter wrote them.
        hash: The stored RFC 6962 leaf hash, 32 bytes.
        event: `data`, parsed.
    """

    index: int
    data: bytes
    hash: bytes
    event: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """A conjunction; None or empty means any. Times are ms since 1970 UTC.

    Attributes:
        dags: Only these DAG ids; None: every event, those without a DAG too.
        dag: One DAG id.
        run: One DAG run id.
        task: One task id.
        ti: One task-instance UUID.
        acts: Activities, such as `object.open`; `object.` at the end of one means a prefix.
        results: Of ok, refused, failed, unknown; `intent` means events without a result.
        uri: One object's address.
        digest: One object's digest, `sha256:…`.
        key: One key's name.
        version: One version of a key.
        lease: One lease's id, `sha256:…`.
        emitter: One emitter.
        host: One worker: emitters whose first event names this host.
        of: The name of an event that others are about, such as its outcome.
        by: A person, as pages name them; or the hash that stands in an event instead (64 hex
            digits), so that a link need not tell the name. An erased person is found no more.
        text: A word that the event's stored text must contain.
        from_ms: From this time on.
        until_ms: Before this time.
        above_index: Only leaves whose index is larger ("12 new").
        excluded: (field, value) of `QUERY_FIELDS` that must not hold, values as above, for act and
            result one of them; an event without the field passes.

    Raises:
        FormatError: Something else is to be excluded.
    """

    dags: tuple[str, ...] | None = None
    dag: str | None = None
    run: str | None = None
    task: str | None = None
    ti: str | None = None
    acts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    uri: str | None = None
    digest: str | None = None
    key: str | None = None
    version: str | None = None
    lease: str | None = None
    emitter: str | None = None
    host: str | None = None
    of: str | None = None
    by: str | None = None
    text: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    above_index: int | None = None
    excluded: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, _ in self.excluded:
            if name not in QUERY_FIELDS:
                raise FormatError(
                    f"event query: {name[:40]!r} cannot be excluded; expected one of "
                    f"{', '.join(sorted(QUERY_FIELDS))}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many events fell into each of some stretches of time that have one length.

    Attributes:
        from_ms: Where the first one begins, ms since 1970 UTC.
        bucket_ms: How long each is; at least 1.
        bars: (events, refused among them) of each, the oldest first.
        is_exact: Whether all were counted; else each bar is an estimate from a part of them, and
            a refusal may be in none.
    """

    from_ms: int
    bucket_ms: int
    bars: tuple[tuple[int, int], ...]
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Which values a field has, and how often.

    Attributes:
        values: (value, events) by falling number, then by value.
        is_exact: Whether every event that matches was counted; else a part was, the newest ones but
            of persons: numbers are lower bounds, and a value may be missing.
    """

    values: tuple[tuple[str, int], ...]
    is_exact: bool
