"""A secured task under a real scheduler whose events go to a collector of another user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attacks.collector.place import DEADLINE_S, NEEDS_ROOT, Place

DAGS = Path(__file__).parent / "dags"
RUN = "collected-1"
pytestmark = [pytest.mark.airflow, NEEDS_ROOT]


@pytest.fixture
def place():
    with Place() as made:
        made.make_log()
        made.start()
        sequencer = made.sequence()
        yield made
        sequencer.terminate()
        sequencer.wait(DEADLINE_S)


def test_what_tasks_listener_and_guardian_say_goes_through_the_collector(
    own_airflow, place, tmp_path_factory
):
    settings = {"AIRFLOW__SECURE_ML__AUDIT_COLLECTOR": str(place.door)}
    folder = tmp_path_factory.mktemp("collector")
    with own_airflow.running(folder, DAGS, settings) as airflow:
        airflow.start("collected", RUN)
        states = airflow.wait("collected", RUN)

        def opened():
            """Program and emitter of all that said something of the run's tasks."""
            spoke = {event["emitter"] for event in place.events(dag="collected", run=RUN)}
            events = place.events(acts=("emitter.open",))
            return {
                e["emitter"]: (e["more"]["program"], e["more"]["pid"])
                for e in events
                if e["emitter"] in spoke
            }

        def ended():
            return place.events(acts=("run.end",), dag="collected", run=RUN)

        wanted = {"task", "guardian", "scheduler"}
        own_airflow.until(
            lambda: ended() and wanted <= {program for program, _ in opened().values()},
            own_airflow.TRAIL_S,
            lambda: str(opened()),
        )
        found = {
            event["more"]["emitter"]: event["more"]
            for event in place.events(acts=("trail.emitter",))
            if event["more"]["state"] == "found"
        }
        acts = {event["act"] for event in place.events(dag="collected", run=RUN, task="make")}
        spool = airflow.audit_dir / "spool"
        own = list(spool.iterdir()) if spool.exists() else []

        assert states == {("make", -1): "success", ("killed", -1): "failed"}
        assert {"task.start", "task.secure", "object.publish", "task.end"} <= acts
        for emitter, (_, pid) in opened().items():
            more = found[emitter]
            assert (more["pid"], more["uid"], more["via"]) == (pid, os.getuid(), "socket")
        assert own == []
        assert not (airflow.audit_dir / "trail.db").exists()
