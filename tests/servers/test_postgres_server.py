"""The PostgreSQL of tests and the demo: real, on loopback, and gone with whoever wanted it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from dags_examples.demo.postgres_server import RunningPostgres, find_postgres

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]
STARTER = """
import sys, time
from pathlib import Path
from dags_examples.demo.postgres_server import RunningPostgres, find_postgres
with RunningPostgres(binaries=find_postgres(), folder=Path(sys.argv[1])) as server:
    server.query("SELECT 1")
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_it_answers_who_knows_the_password(postgres):
    (row,) = postgres.query("SELECT current_user, current_database(), %s::int", [7])

    assert row == ("admin", "warehouse", 7)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres.query("SELECT 1", password="a guess")


def test_nobody_gets_in_without_a_password(postgres):
    rules = postgres.query("SELECT DISTINCT auth_method FROM pg_hba_file_rules")

    assert rules == [("scram-sha-256",)]
    assert postgres.password not in repr(postgres)


def test_its_logins_are_those_that_somebody_made(postgres):
    assert "visitor" not in postgres.logins()

    postgres.query("CREATE ROLE visitor LOGIN")

    assert "visitor" in postgres.logins()
    postgres.query("DROP ROLE visitor")
    assert "visitor" not in postgres.logins()


def test_it_listens_on_loopback_alone_and_not_as_root(postgres):
    found = psutil.net_connections("inet")

    mine = [c for c in found if c.status == "LISTEN" and c.laddr.port == postgres.port]

    assert {c.laddr.ip for c in mine} == {"127.0.0.1"}
    assert [psutil.Process(c.pid).uids().effective for c in mine if c.pid] != [0]


def test_it_stops_whoever_is_connected_and_leaves_no_cluster(tmp_path):
    with RunningPostgres(binaries=find_postgres(), folder=tmp_path / "own") as server:
        cluster = server._cluster
        guest = psycopg.connect(
            host=server.host, port=server.port, user=server.admin,
            password=server.password, dbname=server.database,
        )  # fmt: skip
        began_s = time.monotonic()

    assert time.monotonic() - began_s < 5
    assert not cluster.exists()
    with pytest.raises(psycopg.OperationalError):
        guest.execute("SELECT 1")


def test_it_is_gone_with_who_started_it(tmp_path):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "own")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process = psutil.Process(int(starter.stdout.readline()))
    finally:
        starter.kill()
        starter.communicate(timeout=60)

    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()
    cluster = (tmp_path / "own" / "cluster").resolve()
    assert cluster.exists()
    with RunningPostgres(binaries=find_postgres(), folder=tmp_path / "own"):
        assert not cluster.exists(), "what a killed one left goes at the next start"
