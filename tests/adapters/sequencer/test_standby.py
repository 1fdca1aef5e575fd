"""Two sequencers on one log: whichever is killed, the other goes on, and nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from airflow_secure_ml.adapters.sequencer import sequencer_pid
from tests.adapters.sequencer.test_process import Place
from tests.adapters.trail_folder import DEADLINE_S

# It records without a pause, names what is durable, and is told to end by its standard input.
WRITER = """
import pathlib, select, sys
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact
for number in range(10**9):
    sink = Spool(pathlib.Path(sys.argv[1]), program="test")
    for n in range(20):
        name = sink.record(Fact(act="xcom.write", phase="intent", more={"name": f"value {n}"}))
        sink.settle()
        print(name, flush=True)
    sink.close()
    if select.select([sys.stdin], [], [], 0.02)[0]:
        break
"""


class Pair:
    """Two sequencers that stand by for each other."""

    def __init__(self, place):
        self.place = place
        self.processes = {}
        self.said = place.audit.parent / "said"
        self.said.mkdir()

    def start(self):
        """Start one; returns its process id once it has the log or stands by."""
        number = len(list(self.said.iterdir()))
        with (self.said / str(number)).open("w") as said:
            process = subprocess.Popen(self.place.command("--standby"), stderr=said)
        self.processes[process.pid] = process
        self.place.until(
            lambda: (
                sequencer_pid(self.place.audit) == process.pid
                or "standing by" in (self.said / str(number)).read_text()
            )
        )
        return process.pid

    def at_work(self):
        """Process id of the one that has the log."""
        found = []

        def is_there():
            found[:] = [sequencer_pid(self.place.audit)]
            return found[0] in self.processes

        self.place.until(is_there)
        return found[0]

    def kill(self, pid):
        process = self.processes.pop(pid)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        statuses = [process.wait(timeout=DEADLINE_S) for process in self.processes.values()]
        self.processes.clear()
        return statuses


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def pair(place):
    made = Pair(place)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def fail_over(rounds, place, pair):
    rng = random.Random(1996)
    acknowledged = place.audit.parent / "acknowledged"
    with acknowledged.open("w") as names:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place.audit)], stdin=subprocess.PIPE, stdout=names
        )
    try:
        pair.start()
        pair.start()
        for _ in range(rounds):
            pid = pair.at_work()
            time.sleep(rng.uniform(0, 0.05))
            pair.kill(pid)
            pair.start()
        writer.communicate(b"end\n", timeout=DEADLINE_S)
    finally:
        writer.kill()
        writer.wait()
    place.until(lambda: not place.spooled())
    assert pair.stop() == [0, 0]
    return acknowledged.read_text().split()


def check_nothing_lost(place, acknowledged):
    names = place.names()
    assert set(acknowledged) <= set(names)
    assert len(names) == len(set(names))
    report = place.verify()
    assert (report.status, report.problem) == (0, "")
    assert set(report.ends) == {"whole"}
    assert report.signed_size == report.size


def test_fifteen_kills_of_the_one_at_work_lose_nothing(place, pair):
    check_nothing_lost(place, fail_over(15, place, pair))


@pytest.mark.long
def test_a_thousand_kills_of_the_one_at_work_lose_nothing(place, pair):
    check_nothing_lost(place, fail_over(1000, place, pair))


def test_the_one_that_stands_by_leaves_the_log_alone_and_ends_when_told(place, pair):
    first = pair.start()
    second = pair.start()
    place.put(5)
    place.until(lambda: not place.spooled())

    assert pair.at_work() == first
    waiting = pair.processes.pop(second)
    waiting.terminate()
    assert waiting.wait(timeout=DEADLINE_S) == 0
    assert pair.at_work() == first
