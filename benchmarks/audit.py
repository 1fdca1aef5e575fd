"""Durable events a second and whole secured tasks, the sequencer at work on the same spool.

Each figure stands beside d, the median fdatasync of the same directory right before it.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import statistics
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import ensure_sequencer, stop_sequencer
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from benchmarks.measuring import median_fdatasync_ms, quantile, say

RUN = RunRef(
    dag="churn",
    run="manual__2026-11-22T03:00:00+00:00",
    task="train",
    try_number=1,
    ti="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
)
WRITERS = (1, 8)
# Events at each of the four points of a secured task; emitter.open makes them twelve.
POINTS = (1, 4, 3, 3)
Say = Callable[[list[float]], None]


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Figures by what is written and how many write, round by round."""
    seconds, rounds = (1.0, 2) if quick else (3.0, 3)
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(1, rounds + 1):
        for name, work in (("event", spool_events), ("task", _tasks)):
            for writers in WRITERS:
                say(f"audit: round {number} of {rounds}: {name}, writers: {writers}")
                place = folder / f"{name}-{writers}-{number}"
                figures = _measure_one(place, work, writers, seconds)
                found.setdefault(f"{name}_{writers}", []).append(figures)
    return found


def durable_events(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Figures of single events, each durable before the next."""
    return _measure_one(folder, spool_events, writers, seconds)


def _measure_one(
    folder: Path, work: Callable[..., None], writers: int, seconds: float
) -> dict[str, float]:
    audit_dir, signer_dir = folder / "audit", folder / "signer"
    audit_dir.mkdir(parents=True)
    init_log(signer_dir, "example.org")
    d_ms = median_fdatasync_ms(folder)
    ensure_sequencer(audit_dir, signer_dir)
    try:
        taken = at_once(work, audit_dir, writers, seconds)
        sequenced = _sequenced(audit_dir)
    finally:
        stop_sequencer(audit_dir, timeout_s=60)
    figures = durable_figures(taken, seconds, d_ms)
    return {**figures, "sequenced_per_s": round(sequenced / seconds)}


def durable_figures(taken: list[float], seconds: float, d_ms: float) -> dict[str, float]:
    """What so many durable acts in so many seconds come to, d beside it."""
    return {
        "per_s": round(len(taken) / seconds),
        "p50_ms": round(1000 * statistics.median(taken), 3),
        "p99_ms": round(1000 * quantile(taken, 0.99), 3),
        "d_ms": round(d_ms, 3),
    }


def _sequenced(audit_dir: Path) -> int:
    """How many events the log held when the writers stopped."""
    with closing(sqlite3.connect(f"file:{audit_dir / 'trail.db'}?mode=ro", uri=True)) as log:
        return int(log.execute("SELECT size FROM log").fetchone()[0])


def at_once(work: Callable[..., None], place: Path, writers: int, seconds: float) -> list[float]:
    """Run `work(place, until, done)` in processes of their own; every act's seconds."""
    queue: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    # perf_counter is the machine's monotonic clock: all processes stop at one moment.
    until = perf_counter() + seconds
    processes = [
        multiprocessing.Process(target=work, args=(place, until, queue.put)) for _ in range(writers)
    ]
    for process in processes:
        process.start()
    taken = [one for _ in processes for one in queue.get()]
    for process in processes:
        process.join()
    return taken


def spool_events(audit_dir: Path, until: float, done: Say) -> None:
    """Write single events, each durable before the next."""
    spool = Spool(audit_dir, "task", run=RUN)
    taken = []
    while (start := perf_counter()) < until:
        spool.record(usual_fact())
        spool.settle()
        taken.append(perf_counter() - start)
    spool.close()
    done(taken)


def _tasks(audit_dir: Path, until: float, done: Say) -> None:
    """Write what whole secured tasks write, each in a segment of its own."""
    taken = []
    while (start := perf_counter()) < until:
        spool = Spool(audit_dir, "task", run=RUN)
        for count in POINTS:
            for _ in range(count):
                spool.record(usual_fact())
            spool.settle()
        spool.close()
        taken.append(perf_counter() - start)
    done(taken)


def usual_fact() -> Fact:
    """An event of the usual size."""
    return Fact(
        act="object.open",
        phase="intent",
        key={"system": "local", "name": "data", "version": "3"},
        object={
            "name": "table",
            "uri": "s3://lake/customers.csv",
            "digest": "sha256:" + "ab" * 32,
            "bytes": 12582912,
        },
        more={"signer": "pipeline/3"},
    )
