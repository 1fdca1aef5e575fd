"""A sender and its collector: away, back again, and what a guardian says through it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.collector.line import CollectorLines
from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.frame import EVENT
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.settings import parse_settings
from tests.attacks.collector.place import DEADLINE_S, NEEDS_ROOT, Place

pytestmark = NEEDS_ROOT

ROOT = Path(__file__).parents[3]
FACT = Fact(act="trail.view", phase="seen", result="ok", more={"page": "x"})
KILLED = """
import os, sys
from pathlib import Path
from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.scratch.making import make_scratch
from airflow_secure_ml.core.audit.event import RunRef
shm, audit, door = map(Path, sys.argv[1:])
scratch = make_scratch([shm], 1)
run = RunRef(dag="churn", run="manual__1", task="train", try_number=1, ti="019ab2c4-7d10-7b3e")
guardian = Guardian.start(
    scratch=[scratch.root], run=run, audit=GuardianAudit(audit_dir=audit, collector=door)
)
guardian.ready()
print(guardian.pid, flush=True)
os._exit(9)
"""


@pytest.fixture
def place():
    with Place() as made:
        yield made


def sink_to(place, *, patience_s=0.0, **how):
    return EmitterSink("task", CollectorLines(place.door, patience_s=patience_s), **how)


def said(place):
    """Activities in the order they lie there, each once by its name."""
    place.stop()
    events = [json.loads(frame.payload) for frame in place.frames() if frame.kind == EVENT]
    return [(event["seq"], event["act"]) for event in events]


def test_a_deployment_with_a_collector_writes_no_spool_and_starts_no_sequencer(place, tmp_path):
    init_log(tmp_path / "signer", "example.org")
    settings = parse_settings(
        {
            "audit_dir": str(tmp_path / "audit"),
            "audit_signer_dir": str(tmp_path / "signer"),
            "audit_collector": str(place.door),
            "key_system": f"local://{tmp_path}/keyring.json",
        }
    )
    place.start()

    sink = Deployment(settings).open_sink(None, "task")
    sink.record(FACT)
    sink.settle()
    sink.close()

    assert said(place) == [(0, "emitter.open"), (1, "trail.view"), (2, "emitter.close")]
    assert not (tmp_path / "audit").exists()


def test_without_its_collector_a_task_is_refused_and_later_loses_nothing(place):
    sink = sink_to(place)
    sink.record(FACT)

    with pytest.raises(ServiceUnavailableError, match="see that the collector runs") as caught:
        sink.settle()

    assert caught.value.why == "audit_unavailable"
    place.start()
    sink.settle()
    sink.close()
    assert said(place) == [(0, "emitter.open"), (1, "trail.view"), (2, "emitter.close")]


def test_without_its_collector_a_task_that_may_goes_on_and_says_so_later(place):
    sink = sink_to(place, on_unavailable="continue")
    for _ in range(3):
        sink.record(FACT)
        sink.settle()

    place.start()
    sink.record(FACT)
    sink.settle()

    sink.close()
    acts = [act for _, act in said(place)]
    assert acts == ["emitter.open", *["trail.view"] * 4, "emitter.loss", "emitter.close"]


def test_a_collector_is_waited_for(place):
    sink = EmitterSink("task", CollectorLines(place.door, patience_s=DEADLINE_S))
    sink.record(FACT)
    starter = threading.Thread(target=place.start)
    starter.start()

    sink.settle()

    starter.join()
    assert said(place) == [(0, "emitter.open"), (1, "trail.view")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_task_goes_on_with_the_same_emitter_when_the_collector_is_back(place, number):
    place.start()
    sink = sink_to(place, patience_s=DEADLINE_S)
    sink.record(FACT)
    sink.settle()
    emitter = sink.emitter
    place.stop(number)
    place.start()

    sink.record(FACT)
    sink.settle()

    assert sink.emitter == emitter
    assert set(said(place)) == {(0, "emitter.open"), (1, "trail.view"), (2, "trail.view")}
    assert all(path.name.startswith(emitter) for path in (place.audit / "collected").iterdir())


def test_a_guardian_says_through_the_collector_what_it_did_for_a_dead_task(place, tmp_path):
    place.start()
    shm = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="asml-test-"))
    words = [sys.executable, "-c", KILLED, str(shm), str(tmp_path / "audit"), str(place.door)]
    try:
        task = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=False
        )
        until = time.monotonic() + DEADLINE_S
        while b"emitter.close" not in b"".join(frame.payload for frame in place.frames()):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        shutil.rmtree(shm)

    assert task.returncode == 9
    events = [json.loads(frame.payload) for frame in place.frames() if frame.kind == EVENT]
    assert events[0]["more"]["program"] == "guardian"
    assert events[0]["more"]["pid"] == int(task.stdout)
    assert "scratch.shred" in {event["act"] for event in events}
    assert not (tmp_path / "audit" / "spool").exists()
