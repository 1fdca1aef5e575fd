"""The log itself: beside a hash chain in the same database, as it grows, and verified.

The hash chain is what people write who want a tamper-evident table: each writer reads the newest
row's hash and adds its own row below it, in a transaction that is durable when it returns.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.audit import WRITERS, at_once, durable_events, durable_figures
from benchmarks.measuring import column, median_fdatasync_ms, median_ratio, say, timed

ROOT = Path(__file__).resolve().parent.parent
STEPS = (10_000, 100_000, 1_000_000, 2_000_000)
VERIFIED = 1_000_000
MIB = 1 << 20
VERIFY = """
import json, re, sys
from pathlib import Path
from time import perf_counter
from airflow_secure_ml.adapters.log_signer import LogSigner
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.tree import Edge, leaf_hash
from airflow_secure_ml.services.verifying import verify_log
folder, what = Path(sys.argv[1]), sys.argv[2]
with SqliteAuditReader(folder / "audit" / LOG_FILE).whole() as log:
    start = perf_counter()
    if what == "root":
        edge, waiting = Edge(), []
        for _, data, _ in log.leaves():
            waiting.append(leaf_hash(data))
            if len(waiting) == 4096:
                edge, waiting = edge.append(waiting), []
        edge = edge.append(waiting)
        assert edge == log.edge()
        size = edge.size
    else:
        report = verify_log(log, [LogSigner(folder / "signer").public])
        assert report.status == 0, report.problem
        size = report.checked
    wall_s = perf_counter() - start
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"size": size, "wall_s": wall_s, "peak_bytes": 1024 * int(peak[1])}))
"""


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Figures of both, round by round, and of one log that grows to two million events."""
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    beside: dict[str, list[dict[str, float]]] = {}
    for number in range(1, rounds + 1):
        for writers in WRITERS:
            say(f"trail: round {number} of {rounds}: writers: {writers}")
            for name, take in (("trail", durable_events), ("chain", chained_events)):
                place = folder / f"{name}-{writers}-{number}"
                beside.setdefault(f"{name}_{writers}", []).append(take(place, writers, seconds))
    steps = (2_000, 20_000) if quick else STEPS
    return {"beside": beside, **_grown(folder / "grown", steps, 20_000 if quick else VERIFIED)}


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for writers in WRITERS:
        ours, chain = (found["beside"][f"{name}_{writers}"] for name in ("trail", "chain"))
        rate, theirs = (statistics.median(column(each, "per_s")) for each in (ours, chain))
        ratio = median_ratio(column(ours, "per_s"), column(chain, "per_s"))
        many = "writer" if writers == 1 else "writers"
        lines.append(
            (
                f"trail: durable events, {writers} {many}",
                f"{rate:,.0f}/s",
                f"a hash chain in SQLite: {theirs:,.0f}/s ({ratio:.1f} × as many)",
                "reported",
            )
        )
    return lines + _grown_rows(found)


def _grown_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    steps = found["steps"]
    cost = [1e6 * step["wall_s"] / step["events"] for step in steps]
    first, last = steps[0]["size"], steps[-1]["size"]
    growth = cost[-1] / cost[0]
    lines = [
        (
            f"trail: an event taken in, the log growing from {first:,} to {last:,}",
            " · ".join(f"{each:.0f} µs" for each in cost),
            f"{growth:.2f} × from the first to the last part",
            f"flat, ≤ 1.25 ×: {'met' if growth <= 1.25 else '**missed**'}",
        ),
        (
            f"trail: storage of an event, at {last:,}",
            f"{found['stored_bytes'] / last:,.0f} bytes",
            f"{found['leaf_bytes'] / last:,.0f} of them the event itself",
            "reported",
        ),
    ]
    for what, limit_s in (("root", 15), ("full", 90)):
        check = found["verified"][what]
        lines.append(
            (
                f"trail: {check['size']:,} events verified, {what}",
                f"{check['wall_s']:.1f} s",
                f"{check['peak_bytes'] / MIB:.0f} MiB of memory at most",
                f"≤ {limit_s} s: {'met' if check['wall_s'] <= limit_s else '**missed**'}",
            )
        )
    return lines


def chained_events(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Durable rows a second of a hash chain in SQLite."""
    folder.mkdir(parents=True)
    path = folder / "chain.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE chain(idx INTEGER PRIMARY KEY, data TEXT, hash BLOB)")
        database.execute("INSERT INTO chain VALUES (0, '', zeroblob(32))")
    d_ms = median_fdatasync_ms(folder)
    taken = at_once(_chain, path, writers, seconds)
    return durable_figures(taken, seconds, d_ms)


def _chain(path: Path, until: float, done: Any) -> None:
    event = json.dumps({"act": "object.open", "uri": "s3://lake/customers.csv", "pad": "x" * 480})
    taken = []
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as database:
        database.execute("PRAGMA synchronous = FULL")
        while (start := perf_counter()) < until:
            database.execute("BEGIN IMMEDIATE")
            index, last = database.execute(
                "SELECT idx, hash FROM chain ORDER BY idx DESC LIMIT 1"
            ).fetchone()
            digest = hashlib.sha256(last + event.encode()).digest()
            database.execute("INSERT INTO chain VALUES (?, ?, ?)", (index + 1, event, digest))
            database.execute("COMMIT")
            taken.append(perf_counter() - start)
    done(taken)


def _grown(folder: Path, steps: tuple[int, ...], verified: int) -> dict[str, Any]:
    """Let one log grow; what each part costs, what it takes to store and to verify."""
    from tests.plugin.many_runs import Filler

    filler, found, size = Filler(folder / "audit", folder / "signer"), [], 0
    checks: dict[str, Any] = {}
    for step in steps:
        say(f"trail: a log grows to {step:,} events")
        grown: list[int] = []
        wall_s = timed(lambda grown=grown, step=step: grown.extend(filler.grow(step)))
        found.append({"size": grown[-1], "events": grown[-1] - size, "wall_s": wall_s})
        size = grown[-1]
        if step == verified:
            checks = {what: _verified(folder, what) for what in ("root", "full")}
    filler.close()
    database = folder / "audit" / "trail.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as log:
        leaves = log.execute("SELECT sum(length(data)) FROM leaf").fetchone()[0]
    return {
        "steps": found,
        "verified": checks,
        "stored_bytes": database.stat().st_size,
        "leaf_bytes": leaves,
    }


def _verified(folder: Path, what: str) -> dict[str, float]:
    say(f"trail: verifying, {what}")
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(folder), what],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
