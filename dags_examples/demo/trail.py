"""Read from the audit trail what the tasks did, and derive the whole of it anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from airflow_secure_ml.adapters.log_signer import PUBLIC_FILE, read_log_keys
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.services.verifying import Report, verify_log
from dags_examples.demo.summary import TrailFact, TrailState

POLL_S = 0.5
PAGE = 500


def read_trail(
    audit_dir: Path,
    signer_dir: Path,
    *,
    recorded: Collection[str],
    within_s: float,
    tick: Callable[[str], None],
) -> tuple[list[TrailFact], TrailState]:
    """Wait until the trail has caught up, then read and verify it.

    Args:
        audit_dir: The trail.
        signer_dir: Where the log's public key lies.
        recorded: Task tries whose end must stand in it; what is missing after `within_s` is for
            the summary to say.
        within_s: How long to wait for the sequencer, in seconds.
        tick: Told what is waited for.
    """
    reader = SqliteAuditReader(audit_dir / LOG_FILE)
    deadline = time.monotonic() + within_s
    while True:
        events = _facts(reader)
        ended = {e.ti for e in events if (e.act, e.phase) == ("task.secure", "outcome")}
        report = _verify(reader, signer_dir)
        is_caught_up = set(recorded) <= ended and report.signed_size == report.size
        if is_caught_up or time.monotonic() > deadline:
            return events, _state(report)
        tick(f"{report.signed_size} of {report.size} events under a checkpoint")
        time.sleep(POLL_S)


def _facts(reader: SqliteAuditReader) -> list[TrailFact]:
    return [
        TrailFact(
            ti=leaf.event["run"]["ti"],
            act=leaf.event["act"],
            phase=leaf.event["phase"],
            result=leaf.event.get("result", ""),
            why=leaf.event.get("why", ""),
            path=leaf.event.get("lease", {}).get("path", ""),
            lease=leaf.event.get("lease", {}).get("id", ""),
        )
        for leaf in _leaves(reader)
        if "ti" in leaf.event.get("run", {})
    ]


def _leaves(reader: SqliteAuditReader) -> Iterator[Leaf]:
    older_than = None
    while page := reader.page(EventQuery(), older_than=older_than, limit=PAGE):
        yield from page
        older_than = (page[-1].event["time"], page[-1].index)


def _verify(reader: SqliteAuditReader, signer_dir: Path) -> Report:
    keys = parse_log_keys(read_log_keys(signer_dir / PUBLIC_FILE))
    with reader.whole() as log:
        return verify_log(log, keys)


def _state(report: Report) -> TrailState:
    return TrailState(
        is_whole=report.status == 0,
        problem=report.problem,
        leaves=report.size,
        signed=report.signed_size,
        checkpoints=report.checkpoints,
        root=report.root,
    )
