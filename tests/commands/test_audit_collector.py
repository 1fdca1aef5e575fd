"""`audit collector` and `audit sequencer --collector`: real processes, two real users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.collector.place import DEADLINE_S, NEEDS_ROOT, TASK, Place

ROOT = Path(__file__).parents[2]


class Desk(Place):
    """A place whose collector is started as whoever runs this."""

    def command(self, *words, **how):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        own = {
            "AIRFLOW_HOME": str(self.base / "home"),
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__SECURE_ML__AUDIT_DIR": str(self.audit),
            "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(self.signer),
        }
        words = [sys.executable, "-m", "airflow_secure_ml.cli", *map(str, words)]
        return subprocess.Popen(
            words, env=kept | own, cwd=self.base, stdout=subprocess.PIPE, text=True, **how
        )


@pytest.fixture
def desk():
    with Desk() as made:
        made.make_log()
        for folder in (made.audit, made.run, made.signer, *made.signer.iterdir()):
            os.chown(folder, os.getuid(), os.getgid())
        yield made


@NEEDS_ROOT
def test_what_the_command_collects_its_sequencer_puts_into_the_log(desk):
    with desk.command("audit", "collector", "--socket", desk.door, "--allow-uid", TASK) as process:
        assert process.stdout.readline() == f"READY {desk.door}\n"
        pid, emitter = desk.task(
            "s = EmitterSink('task', CollectorLines(door)); s.record(fact); s.settle()\n"
            "print(os.getpid(), s.emitter); s.close()"
        ).split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0

    with desk.command("audit", "sequencer", "--once", "--collector") as sequencer:
        assert sequencer.wait(DEADLINE_S) == 0

    assert [event["act"] for event in desk.events(emitter=emitter)] == [
        "emitter.open",
        "trail.view",
        "emitter.close",
    ]
    (found,) = (
        event["more"]
        for event in desk.events(acts=("trail.emitter",))
        if event["more"]["emitter"] == emitter and event["more"]["state"] == "found"
    )
    assert (found["pid"], found["uid"], found["via"]) == (int(pid), TASK, "socket")


@NEEDS_ROOT
def test_a_second_collector_of_a_directory_is_refused(desk):
    with desk.command("audit", "collector", "--socket", desk.door) as first:
        assert first.stdout.readline().startswith("READY ")

        with desk.command(
            "audit", "collector", "--socket", desk.door, stderr=subprocess.PIPE
        ) as second:
            said = second.communicate(timeout=DEADLINE_S)[1]

        first.terminate()
    assert second.returncode == 2
    assert "another collector runs" in said
