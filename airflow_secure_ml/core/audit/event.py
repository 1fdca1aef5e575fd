"""An audit event, version 1: its fields, their types, and the catalogue of activities.

Source: AUDIT_TRAIL, Event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """Which task try, or DAG run, an event belongs to.

    Attributes:
        dag: DAG id.
        run: DAG run id.
        task: Task id; None for events of a DAG run.
        map_index: -1 if unmapped.
        try_number: From 1.
        ti: Airflow's task-instance UUID, one per try: the join key for coverage.
    """

    dag: str
    run: str
    task: str | None = None
    map_index: int = -1
    try_number: int | None = None
    ti: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a producer says; the emitter adds v, emitter, seq, prev, time and mono.

    Attributes:
        act: An activity of the catalogue.
        phase: intent, outcome or seen.
        result: ok, refused, failed, unknown; None exactly for an intent.
        why: A code, exactly with refused and failed.
        of: Name of the intent this is the outcome of.
        run: The task try or DAG run; None: the emitter's own (what it was opened for), if any.
        object: name, uri, version, digest, bytes, rows: what is known.
        key: system, name, version.
        lease: path, id, ttl_s.
        rule: id, digest, decision.
        by: A person; always stored as a hidden value.
        more: Facts that the catalogue lists for the activity.
    """

    act: str
    phase: str
    result: str | None = None
    why: str | None = None
    of: str | None = None
    run: RunRef | None = None
    object: Mapping[str, Any] | None = None
    key: Mapping[str, Any] | None = None
    lease: Mapping[str, Any] | None = None
    rule: Mapping[str, Any] | None = None
    by: str | None = None
    more: Mapping[str, Any] | None = None
