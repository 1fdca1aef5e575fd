"""What a collector acknowledged reaches the log once, however often it dies; what that shows."""

from __future__ import annotations

import signal
import time

import pytest

from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.services.verifying import verify_log
from tests.attacks.collector.place import DEADLINE_S, NEEDS_ROOT, ON_DEMAND, Place

pytestmark = NEEDS_ROOT

ROUNDS, EVENTS = 10, 30


class Followed(Place):
    """A place with a sequencer at work."""

    def __init__(self):
        super().__init__()
        self.make_log()
        self.sequencer = None

    def follow(self):
        self.sequencer = self.sequence()

    def end(self, number=signal.SIGTERM):
        if self.sequencer is not None:
            self.sequencer.send_signal(number)
            self.sequencer.wait(DEADLINE_S)
            self.sequencer = None

    def report(self):
        keys = parse_log_keys((self.signer / "log_keys").read_text())
        with self.log().whole() as whole:
            return verify_log(whole, keys)


def until(found, describe):
    deadline = time.monotonic() + DEADLINE_S
    while not found():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.05)


@pytest.fixture
def place():
    with Followed() as made:
        made.start()
        made.follow()
        yield made
        made.end()


def test_collector_and_sequencer_are_killed_and_each_event_is_once_in_the_log(place):
    with place.sender(ON_DEMAND) as task:
        emitter = task.stdout.readline().strip()
        for number in range(ROUNDS):
            task.stdin.write("more\n" * EVENTS)
            task.stdin.flush()
            assert task.stdout.readline() == ".\n"
            place.stop(signal.SIGKILL)
            if number % 4 == 1:
                place.end(signal.SIGKILL)
                place.follow()
            place.start()
            assert [task.stdout.readline() for _ in range(EVENTS - 1)] == [".\n"] * (EVENTS - 1)
        task.stdin.close()
        assert task.wait(DEADLINE_S) == 0
    until(lambda: place.endings().get(emitter) == "whole", place.endings)
    place.end()

    # With its open, what it said by itself, and its close.
    seqs = [event["seq"] for event in place.events(emitter=emitter)]
    assert sorted(seqs) == list(range(ROUNDS * EVENTS + 3))
    assert place.events(acts=("trail.refused",)) == []
    assert place.report().problem == ""


def test_an_emitter_whose_collector_is_away_reads_as_cut_until_it_goes_on(place):
    with place.sender(ON_DEMAND) as task:
        emitter = task.stdout.readline().strip()
        place.stop(signal.SIGKILL)
        until(lambda: place.endings().get(emitter) == "cut", place.endings)

        place.start()
        task.stdin.write("more\n")
        task.stdin.close()

        assert task.stdout.readline() == ".\n"
        assert task.wait(DEADLINE_S) == 0
    until(lambda: place.endings().get(emitter) == "whole", place.endings)
    states = [
        event["more"]["state"]
        for event in place.events(acts=("trail.emitter",))
        if event["more"]["emitter"] == emitter
    ]
    assert states == ["found", "cut", "whole"]
    assert [event["seq"] for event in place.events(emitter=emitter)] == [0, 1, 2, 3]


def test_an_emitter_whose_task_is_killed_reads_as_cut(place):
    with place.sender(ON_DEMAND) as task:
        emitter = task.stdout.readline().strip()

        task.kill()

    until(lambda: place.endings().get(emitter) == "cut", place.endings)
