"""Kill -9 of receiver and worker in a loop: no acknowledged event lost, none twice."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys

import pytest

from tests.attacks.pushing import kill, kill_worker, start_worker, told

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


def start_receiver(door, site, token_path):
    environment = {
        **os.environ,
        "AIRFLOW__SECURE_ML__AUDIT_DIR": str(site.path),
        "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(site.path / "nobody"),
        "AIRFLOW__SECURE_ML__AUDIT_INGEST_TOKEN_PATH": str(token_path),
    }
    words = [sys.executable, "-c", RECEIVER, str(door.fileno())]
    return subprocess.Popen(words, env=environment, pass_fds=[door.fileno()])


@pytest.mark.parametrize(
    "rounds", [15, pytest.param(300, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_receivers_and_workers_killed_in_a_loop_lose_nothing_acknowledged(site, token_path, rounds):
    seed, names = random.Random(20261128), []
    door = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{door.getsockname()[1]}/secure-ml/ingest"
    receiver = start_receiver(door, site, token_path)
    for number in range(rounds):
        worker = start_worker(url=url, token_path=str(token_path))
        names += told(worker, seed.randint(3, 20))
        if number % 5 == 2:
            kill(receiver)
            receiver = start_receiver(door, site, token_path)
            names += told(worker, 5)
        names += kill_worker(worker)
        if number % 3 == 1:
            site.run()
    kill(receiver)
    door.close()
    site.run()

    found = site.names()
    assert len(names) >= rounds * 3
    assert all(name.count(":") == 1 for name in names)
    assert set(names) <= set(found)
    assert len(found) == len(set(found))
    assert site.events("trail.refused") == []
    assert list((site.path / "ingested").iterdir()) == []
