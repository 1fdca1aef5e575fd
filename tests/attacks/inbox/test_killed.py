"""Kill -9 of workers and of the server in a loop: no acknowledged event lost, none twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader

pytestmark = pytest.mark.postgres
DEADLINE_S = 30.0

# It hands over without a pause and names what it was told is durable.
WORKER = """
import sys
from pathlib import Path
from airflow_secure_ml.audit_ports import push_lines
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.event import Fact
lines = push_lines({"inbox": sys.argv[1], "passfile": sys.argv[2]})
while True:
    sink = EmitterSink("task", lines)
    for n in range(7):
        name = sink.record(Fact(act="xcom.write", phase="intent", more={"name": f"value {n}"}))
        sink.settle()
        print(name, flush=True)
    sink.close()
"""


def worker(site):
    where = [site.place.address("trail_worker"), str(site.place.passfile)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *where], stdout=subprocess.PIPE, text=True
    )


def names_in_log(site):
    with PostgresAuditReader(site.place.login("trail_reader")).whole() as log:
        events = [json.loads(data) for _, data, _ in log.leaves()]
    return [f"{event['emitter']}:{event['seq']}" for event in events]


@pytest.mark.parametrize(
    "rounds", [15, pytest.param(300, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_workers_and_sessions_killed_in_a_loop_lose_nothing_that_was_acknowledged(site, rounds):
    seed = random.Random(20261128)
    told = []
    for number in range(rounds):
        process = worker(site)
        for _ in range(seed.randint(3, 30)):
            told.append(process.stdout.readline().strip())
        if number % 3 == 1:
            # As a server that is started anew: every session ends in the middle of something.
            site.place.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND pid <> pg_backend_pid()",
                [site.place.database],
            )
            told += [process.stdout.readline().strip() for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        if number % 2:
            if number > 1:
                site.restart()
            site.run()
    deadline = time.monotonic() + DEADLINE_S
    while site.rows() and time.monotonic() < deadline:
        site.inbox_s += 10.0
        site.run()

    found = names_in_log(site)
    assert len(told) >= rounds * 3
    assert all(name.count(":") == 1 for name in told)
    assert set(told) <= set(found)
    assert len(found) == len(set(found))
    assert site.rows() == 0
    assert site.verify().problem == ""
