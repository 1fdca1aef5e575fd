"""kill -9 of a task that leases: nothing stays leased for a second, and each end is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.readable import is_readable

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0
ONCE = [
    "point 1",
    "guard started",
    "guard ready",
    "line taken",
    "point 2",
    "in the body",
    "before shredding",
    "shredded",
    "recorded scratch.shred outcome",
    "recorded task.secure outcome",
    "let go",
    "closed",
]
# When it comes again, the guardian keeps the first lease.
TWICE = [
    "logged in",
    "asking",
    "granted",
    "recorded lease.grant outcome",
    "before handing over",
    "handed over",
    "recorded lease.revoke outcome",
]
STEPS = [(step, 0) for step in (*ONCE, *TWICE)] + [(step, 1) for step in TWICE]
# Durable, and the guardian does not know it yet: it tells of the same ends once more.
TOLD_TWICE = "point 3"


class Victim:
    """The process that runs secured tasks, and what became of each."""

    def __init__(self, bench, place):
        self.bench = bench
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "leasing_victim.py", bench.folder, bench.shm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"VICTIM_PLACE": json.dumps(place), "PYTHONPATH": str(ROOT)},
        )
        self.buffer = b""
        assert self._line() == {"ready": True}

    def run(self, step=None, skip=0):
        """Run a task that dies at a step, the first time or a later one."""
        self.steps, self.users, self.leases = [], [], []
        order = {"step": step, "skip": skip, "waits": False}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        while "over" not in (line := self._line()):
            self.steps += [line["step"]] if "step" in line else []
            if "user" in line:
                self.users.append(line["user"])
                self.leases.append(line["lease"])
        return line["over"]

    def _line(self):
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            ready = is_readable(self.process.stdout, left)
            assert ready, f"nothing more after {self.steps[-3:]}: a process is left"
            received = os.read(self.process.stdout.fileno(), 65536)
            assert received, f"the victim itself ended: {self.process.wait()}"
            self.buffer += received
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def told(self):
        """How often the trail tells of each lease's end; of a lease nobody heard of, never."""
        events = [one for one in self.bench.events() if one["act"] == "lease.revoke"]
        mine = [one for one in events if one["lease"]["id"] in self.leases]
        assert {one["result"] for one in mine} <= {"ok", "unknown"}
        return Counter(one["lease"]["id"] for one in mine)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(DEADLINE_S) == 0


@pytest.fixture
def victim(bench, leasing_place):
    made = Victim(bench, leasing_place)
    yield made
    made.close()


def left(postgres, users):
    return set(users) & set(postgres.logins())


@pytest.mark.parametrize(("step", "skip"), STEPS)
def test_a_kill_at_a_step_leaves_nothing_leased_and_each_end_is_told_once(
    victim, postgres, step, skip
):
    status = victim.run(step, skip)

    assert victim.steps[-1] == step, "the step was not hit"
    assert status == -signal.SIGKILL
    # Its guardian has ended, too.
    assert left(postgres, victim.users) == set()
    assert list(victim.told().values()) == [1] * victim.steps.count("handed over")


def test_a_kill_in_the_last_write_tells_of_an_end_twice_and_never_not_at_all(victim, postgres):
    assert victim.run(TOLD_TWICE) == -signal.SIGKILL

    assert left(postgres, victim.users) == set()
    assert list(victim.told().values()) == [2, 2]


def test_a_run_that_nobody_kills_tells_each_end_once(victim, postgres):
    assert victim.run() == 0

    assert left(postgres, victim.users) == set()
    assert list(victim.told().values()) == [1, 1]
