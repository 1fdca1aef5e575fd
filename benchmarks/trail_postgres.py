"""The log in PostgreSQL, beside a hash chain in the same server.

Writers make their events durable in the spool, as with any log; the sequencer takes them into
PostgreSQL meanwhile. In a chain each writer waits for the server, and for the writer before it.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.audit import WRITERS, at_once, durable_figures, spool_events
from benchmarks.measuring import (
    NotInstalledError,
    column,
    median_fdatasync_ms,
    median_ratio,
    say,
)

EVENT = json.dumps({"act": "object.open", "uri": "s3://lake/customers.csv", "pad": "x" * 480})


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Figures of both, round by round."""
    from dags_examples.demo.postgres_server import find_postgres
    from tests.servers.trail_place import running

    if find_postgres() is None:
        raise NotInstalledError("PostgreSQL")
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    found: dict[str, list[dict[str, float]]] = {}
    with running(folder) as server:
        for number in range(1, rounds + 1):
            for writers in WRITERS:
                say(f"trail in PostgreSQL: round {number} of {rounds}: writers: {writers}")
                place = server.fresh()
                where = folder / f"trail-{writers}-{number}"
                ours = _trail(where, place, writers, seconds)
                found.setdefault(f"trail_{writers}", []).append(ours)
                chain = _chained(folder, server, writers, seconds)
                found.setdefault(f"chain_{writers}", []).append(chain)
    return {"beside": found}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for writers in WRITERS:
        ours, chain = (found["beside"][f"{name}_{writers}"] for name in ("trail", "chain"))
        rate, sequenced, p99, d_ms = (
            statistics.median(column(ours, figure))
            for figure in ("per_s", "sequenced_per_s", "p99_ms", "d_ms")
        )
        theirs = statistics.median(column(chain, "per_s"))
        ratio = median_ratio(column(ours, "per_s"), column(chain, "per_s"))
        aims = [f"p99 ≤ 3 d + 10 ms: {'met' if p99 <= 3 * d_ms + 10 else '**missed**'}"]
        if d_ms <= 1:
            met = "met" if min(rate, sequenced) >= 1000 else "**missed**"
            aims.append(f"≥ 1,000/s where d ≤ 1 ms: {met}")
        many = "writer" if writers == 1 else "writers"
        lines.append(
            (
                f"trail in PostgreSQL: durable events, {writers} {many}",
                f"{rate:,.0f}/s, p99 {p99:.1f} ms; {sequenced:,.0f}/s in the log",
                f"a hash chain in PostgreSQL: {theirs:,.0f}/s ({ratio:.1f} × as many); "
                f"d = {d_ms:.2f} ms",
                "; ".join(reversed(aims)),
            )
        )
    return lines


def _trail(folder: Path, place: Any, writers: int, seconds: float) -> dict[str, float]:
    """Durable events a second, and how many of them PostgreSQL has when the writers stop."""
    from airflow_secure_ml.adapters.log_signer import init_log
    from airflow_secure_ml.adapters.sequencer import ensure_sequencer, stop_sequencer

    audit_dir, signer_dir = folder / "audit", folder / "signer"
    audit_dir.mkdir(parents=True)
    init_log(signer_dir, "example.org")
    d_ms = median_fdatasync_ms(folder)
    log = ["--audit-store", place.address(), "--audit-store-passfile", str(place.passfile)]
    ensure_sequencer(audit_dir, signer_dir, log=log)
    try:
        taken = at_once(spool_events, audit_dir, writers, seconds)
        sequenced = place.query("SELECT size FROM asml_trail.log")[0][0]
    finally:
        stop_sequencer(audit_dir, timeout_s=60)
    return {**durable_figures(taken, seconds, d_ms), "sequenced_per_s": round(sequenced / seconds)}


def _chained(folder: Path, server: Any, writers: int, seconds: float) -> dict[str, float]:
    """Durable rows a second of a hash chain."""
    postgres = server.server
    postgres.query("DROP TABLE IF EXISTS chain")
    postgres.query("CREATE TABLE chain(idx bigint PRIMARY KEY, data text, hash bytea)")
    postgres.query("INSERT INTO chain VALUES (0, '', decode(repeat('00', 32), 'hex'))")
    d_ms = median_fdatasync_ms(folder)
    password = folder / "chain_password"
    password.write_text(
        f"host={postgres.host} port={postgres.port} dbname={postgres.database} "
        f"user={postgres.admin} password={postgres.password}"
    )
    return durable_figures(at_once(_chain, password, writers, seconds), seconds, d_ms)


def _chain(where: Path, until: float, done: Any) -> None:
    import psycopg

    taken = []
    with psycopg.connect(where.read_text()) as database:
        while (start := perf_counter()) < until:
            # One writer at a time: the next row's hash is not known before the last is there.
            database.execute("LOCK TABLE chain IN EXCLUSIVE MODE")
            row = database.execute("SELECT idx, hash FROM chain ORDER BY idx DESC LIMIT 1")
            index, last = row.fetchone() or sys.exit("no chain")
            digest = hashlib.sha256(bytes(last) + EVENT.encode()).digest()
            database.execute("INSERT INTO chain VALUES (%s, %s, %s)", (index + 1, EVENT, digest))
            database.commit()
            taken.append(perf_counter() - start)
    done(taken)
