"""Measure the audit spool: durable events a second, a whole secured task, and the disk below it.

    python benchmarks/audit_spool.py [--dir DIR] [--seconds 3]

Every figure stands beside d, the median fdatasync of the same directory in the same run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef

RUN = RunRef(
    dag="churn",
    run="manual__2026-11-22T03:00:00+00:00",
    task="train",
    try_number=1,
    ti="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
)
WRITERS = 8
# Events at each of the four points of a secured task; emitter.open makes the first two.
POINTS = (1, 4, 3, 3)


def median_fdatasync_s(folder: Path, count: int = 300) -> float:
    """Median seconds of a 640-byte append and its fdatasync; d of every figure."""
    fd = os.open(folder / "d", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    for _ in range(count):
        os.write(fd, b"x" * 640)
        start = time.perf_counter()
        os.fdatasync(fd)
        taken.append(time.perf_counter() - start)
    os.close(fd)
    return statistics.median(taken)


def fact() -> Fact:
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


def one_event(spool: Spool) -> None:
    """One event, one fdatasync."""
    spool.record(fact())
    spool.settle()


def events(folder: Path, until: float, say: Callable[[list[float]], None]) -> None:
    """Write single durable events until a moment of the clock; says each one's seconds."""
    spool = Spool(folder, "task", run=RUN)
    one_event(spool)
    taken = []
    while (start := time.perf_counter()) < until:
        one_event(spool)
        taken.append(time.perf_counter() - start)
    spool.close()
    say(taken)


def tasks(folder: Path, until: float, say: Callable[[list[float]], None]) -> None:
    """Write whole secured tasks, each in a segment of its own."""
    taken = []
    while (start := time.perf_counter()) < until:
        spool = Spool(folder, "task", run=RUN)
        for count in POINTS:
            for _ in range(count):
                spool.record(fact())
            spool.settle()
        spool.close()
        taken.append(time.perf_counter() - start)
    say(taken)


def measured(work: Callable[..., None], folder: Path, writers: int, seconds: float) -> list[float]:
    """Run `work` in processes of their own, at once; every act's seconds."""
    queue: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    # perf_counter is the machine's monotonic clock: all processes stop at one moment.
    until = time.perf_counter() + seconds
    processes = [
        multiprocessing.Process(target=work, args=(folder, until, queue.put))
        for _ in range(writers)
    ]
    for process in processes:
        process.start()
    taken = [one for _ in processes for one in queue.get()]
    for process in processes:
        process.join()
    return taken


def figures(base: Path, seconds: float) -> list[dict[str, float | str | int]]:
    """Every figure: what, writers, acts a second, p50, p99 and d in ms."""
    rows: list[dict[str, float | str | int]] = []
    for name, work in (("event", events), ("secured task", tasks)):
        for writers in (1, WRITERS):
            folder = Path(tempfile.mkdtemp(dir=base))
            d_s = median_fdatasync_s(folder)
            taken = sorted(measured(work, folder, writers, seconds))
            shutil.rmtree(folder)
            rows.append(
                {
                    "what": name,
                    "writers": writers,
                    "per_s": round(len(taken) / seconds),
                    "p50_ms": round(1000 * statistics.median(taken), 2),
                    "p99_ms": round(1000 * taken[len(taken) * 99 // 100], 2),
                    "d_ms": round(1000 * d_s, 3),
                }
            )
    return rows


def main() -> None:
    """Print the table, or JSON for `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dir", type=Path, default=None, help="a local directory; default: temporary"
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as base:
        rows = figures(Path(base), options.seconds)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'durable':<14}{'writers':>8}{'per s':>9}{'p50 ms':>9}{'p99 ms':>9}{'d ms':>8}")
    for row in rows:
        print(
            f"{row['what']:<14}{row['writers']:>8}{row['per_s']:>9,}"
            f"{row['p50_ms']:>9}{row['p99_ms']:>9}{row['d_ms']:>8}"
        )


if __name__ == "__main__":
    main()
