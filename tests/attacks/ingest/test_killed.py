"""Kill -9 of receiver and worker in a loop: no acknowledged event lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys

import pytest

# The route in a process of its own, on a socket that it is given.
RECEIVER = """
import socket, sys
import uvicorn
from fastapi import FastAPI
from airflow_secure_ml.plugin.ingest import router
app = FastAPI()
app.include_router(router, prefix="/secure-ml")
config = uvicorn.Config(app, log_level="error", lifespan="off")
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""
WORKER = """
import sys
from airflow_secure_ml.audit_ports import push_lines
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.event import Fact
lines = push_lines({"url": sys.argv[1], "token_path": sys.argv[2]})
while True:
    sink = EmitterSink("task", lines)
    for n in range(7):
        name = sink.record(Fact(act="xcom.write", phase="intent", more={"name": f"value {n}"}))
        sink.settle()
        print(name, flush=True)
    sink.close()
"""


def start_receiver(door, site, token_path):
    environment = {
        **os.environ,
        "AIRFLOW__SECURE_ML__AUDIT_DIR": str(site.path),
        "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(site.path / "nobody"),
        "AIRFLOW__SECURE_ML__AUDIT_INGEST_TOKEN_PATH": str(token_path),
    }
    words = [sys.executable, "-c", RECEIVER, str(door.fileno())]
    return subprocess.Popen(words, env=environment, pass_fds=[door.fileno()])


def kill(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "rounds", [15, pytest.param(300, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_receivers_and_workers_killed_in_a_loop_lose_nothing_acknowledged(site, token_path, rounds):
    seed, told = random.Random(20261128), []
    door = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{door.getsockname()[1]}/secure-ml/ingest"
    receiver = start_receiver(door, site, token_path)
    for number in range(rounds):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(token_path)], stdout=subprocess.PIPE, text=True
        )
        told += [worker.stdout.readline().strip() for _ in range(seed.randint(3, 20))]
        if number % 5 == 2:
            kill(receiver)
            receiver = start_receiver(door, site, token_path)
            told += [worker.stdout.readline().strip() for _ in range(5)]
        kill(worker)
        told += [line.strip() for line in worker.stdout if line.endswith("\n")]
        worker.stdout.close()
        if number % 3 == 1:
            site.run()
    kill(receiver)
    door.close()
    site.run()

    found = [f"{event['emitter']}:{event['seq']}" for event in site.events()]
    assert len(told) >= rounds * 3
    assert all(name.count(":") == 1 for name in told)
    assert set(told) <= set(found)
    assert len(found) == len(set(found))
    assert site.events("trail.refused") == []
    assert list((site.path / "ingested").iterdir()) == []
