"""What a reader of the audit log asks for, and what it gets: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        key: One key's name.
        emitter: One emitter.
        text: A word that the event's stored text must contain.
        from_ms: From this time on.
        until_ms: Before this time.
        above_index: Only leaves whose index is larger ("12 new").
    """

    dags: tuple[str, ...] | None = None
    dag: str | None = None
    run: str | None = None
    task: str | None = None
    ti: str | None = None
    acts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    uri: str | None = None
    key: str | None = None
    emitter: str | None = None
    text: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    above_index: int | None = None
