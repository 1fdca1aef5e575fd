"""What a leased login adds to a task: the same body with a static one, beside it, on loopback.

A real Vault over TLS and a real PostgreSQL: a role is made, used by the body, and dropped.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measuring import quantile, say
from benchmarks.task_bench import TaskBench, in_turns, summary

CASES = ("bare", "leased", "kv")
POLICY = """
path "database/creds/reader" { capabilities = ["read"] }
path "kv/data/pipelines/*" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
"""


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Milliseconds by case: p50 and p95, in a fresh process and in one that goes on."""
    from dags_examples.demo.postgres_server import RunningPostgres, find_postgres
    from dags_examples.demo.vault_server import RunningVault
    from tests.servers import build, vault_setup

    binary, binaries = build.find(build.SERVERS["vault"]), find_postgres()
    if binary is None or binaries is None:
        raise SystemExit("leases: Vault or PostgreSQL is missing; make servers")
    count = 5 if quick else 50
    (folder / "vault").mkdir()
    with (
        RunningPostgres(binaries=binaries, folder=folder / "postgres") as postgres,
        RunningVault(binary=binary, folder=folder / "vault") as vault,
    ):
        database = vault_setup.Database.mount(vault, postgres)
        vault_setup.kv(vault, {"pipelines/api": {"key": "benchmark"}})
        name = vault_setup.policy(vault, "bench", POLICY)
        role_id, secret_id = vault_setup.approle(vault, "bench", name, token_ttl="1h")
        os.environ["AIRFLOW_CONN_VAULT_DEFAULT"] = _connection(vault, role_id, secret_id)
        where = f"{postgres.host}:{postgres.port}/{postgres.database}"
        os.environ["AIRFLOW_CONN_WAREHOUSE"] = (
            f"postgres://{postgres.admin}:{postgres.password}@{where}"
        )
        bench = TaskBench(folder, _make_dag)
        try:
            fresh = in_turns(bench.once_forked, CASES, count, "task with a lease, fresh process")
            warm = in_turns(bench.once, CASES, count, "task with a lease, one process")
        finally:
            bench.stop()
        gone = _gone_ms(vault, database, (role_id, secret_id), folder / "killed", count)
    return {
        "count": count,
        "gone": gone,
        "fresh": {name: summary(taken) for name, taken in fresh.items()},
        "warm": {name: summary(taken) for name, taken in warm.items()},
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for name, label in (
        ("leased", "`secure()`, one PostgreSQL login leased, over the task with a static one"),
        ("kv", "`secure()`, one secret of KV, over the same"),
    ):
        warm, fresh = found["warm"], found["fresh"]
        p50, p95 = (warm[name][part] - warm["bare"][part] for part in ("p50_ms", "p95_ms"))
        first = fresh[name]["p50_ms"] - fresh["bare"]["p50_ms"]
        times = warm[name]["p50_ms"] / warm["bare"]["p50_ms"]
        lines.append(
            (
                label,
                f"p50 {p50:+.0f} ms, p95 {p95:+.0f} ms ({times:.1f} ×)",
                f"first in its process: {first:+.0f} ms",
                "reported",
            )
        )
    if "gone" in found:
        p50, most = (figure(found["gone"]) for figure in (statistics.median, max))
        figures = f"p50 {p50:.0f} ms, p95 {quantile(found['gone'], 0.95):.0f} ms, max {most:.0f} ms"
        aim = f"≤ 1 s: {'met' if most <= 1000 else '**missed**'}"
        lines.append(
            ("from SIGKILL of a task until PostgreSQL has its login no more", figures, "", aim)
        )
    return lines


def _gone_ms(
    vault: Any, database: Any, role: tuple[str, str], audit: Path, count: int
) -> list[float]:
    """How long the login of a task that was killed lives on, ms, one task after the other."""
    from tests.adapters.guarded_task import Starter

    taken = []
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="secure-ml-bench-") as shm:
        start = Starter(vault, database, role, role, audit, Path(shm))
        try:
            for number in range(1, count + 1):
                say(f"leases of killed tasks: {number} of {count}")
                task = start("waits", path="database/creds/reader")
                began = perf_counter()
                task.kill()
                while task.user in database.postgres.logins():
                    continue
                taken.append(1000 * (perf_counter() - began))
        finally:
            start.close()
            shutil.rmtree(audit, ignore_errors=True)
    return taken


def _connection(vault: Any, role_id: str, secret_id: str) -> str:
    return json.dumps(
        {
            "conn_type": "vault_secure_ml",
            "host": vault.url,
            "login": role_id,
            "password": secret_id,
            "extra": {"auth_type": "approle", "ca": str(vault.ca)},
        }
    )


def _make_dag() -> tuple[Any, dict[str, Any]]:
    from airflow.sdk import DAG, Connection, task

    from airflow_secure_ml import secure

    def ask() -> None:
        import psycopg

        found = Connection.get("warehouse")
        with psycopg.connect(
            host=found.host,
            port=found.port,
            dbname=found.schema,
            user=found.login,
            password=found.password,
        ) as session:
            session.execute("SELECT 1")

    def take(api: Any) -> None:
        assert api["key"] == "benchmark"

    with DAG("bench", schedule=None) as dag:
        made = {
            "bare": task(task_id="bare")(ask)(),
            "leased": secure(credentials={"warehouse": "database/creds/reader"})(
                task(task_id="leased")(ask)
            )(),
            "kv": secure(credentials={"api": "kv/data/pipelines/api"})(task(take))(),
        }
    return dag, {name: one.operator for name, one in made.items()}
