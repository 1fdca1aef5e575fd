"""kill -9 of a secured task: no plaintext or half object left, no acknowledged event lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core import canonical
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.signing import Demand, verify_artifact
from tests.readable import is_readable

DEADLINE_S = 60
TRIES = 5
# About two steps.
LATER_S = 0.005
STEPS = [
    "recorded task.secure intent",
    "point 1",
    "scratch made",
    "guard started",
    "guard ready",
    "before write_at scratch table",
    "after write_at scratch table",
    "after commit scratch table",
    "recorded object.open outcome",
    "point 2",
    "in the body",
    "body done",
    "after write_at target a",
    "recorded object.seal outcome",
    "after write_at target b/one",
    "after commit target b/one",
    "recorded object.publish intent",
    "point 3",
    "before commit statement of a",
    "after commit statement of a",
    "after commit statement of b",
    "before commit target a",
    "after commit target a",
    "recorded object.publish outcome",
    "after commit target b",
    "before shredding",
    "shredded",
    "point 4",
    "let go",
    "closed",
]


class Victim:
    """The process that runs secured tasks, and what became of each."""

    def __init__(self, bench):
        self.bench, self.canary, self.count = bench, secrets.token_hex(8), 0
        self.acked, self.steps, self.contents = set(), [], {None}
        self.temporary = bench.folder / "temporary"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "victim.py", bench.folder, bench.shm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(self.temporary)},
        )
        self.buffer, self.is_running = b"", False
        assert self._line() == {"ready": True}

    def start(self, step=None, *, waits=False):
        """Begin a run that dies at a step, or waits at its end to be killed; returns its pid."""
        self.count += 1
        self.content = f"CANARY-{self.canary}-{self.count}"
        self.steps = []
        order = {"content": self.content, "step": step, "waits": waits}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        self.is_running = True
        return self._until("pid")

    def reach(self, step):
        """Let the run go on until it has passed this step."""
        while step not in self.steps:
            self._until("step")

    def end(self):
        """Wait until nothing that the run started is left; returns its exit status."""
        status = self._until("over")
        self.is_running = False
        return status

    def _until(self, key):
        while True:
            line = self._line()
            self.acked |= set(line.get("acked", ()))
            if "step" in line:
                self.steps.append(line["step"])
            if key in line:
                return line[key]

    def _line(self):
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            assert is_readable(self.process.stdout, left), (
                f"nothing more after {self.steps[-3:]}: a process is left"
            )
            received = os.read(self.process.stdout.fileno(), 65536)
            assert received, f"the victim itself ended, {self.process.wait()}: {self.steps[-3:]}"
            self.buffer += received
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def check(self):
        """Nothing in clear anywhere; under the final names nothing, or a whole signed object."""
        bench = self.bench
        assert plaintext(self.canary, bench.shm, bench.folder) == []
        demand = Demand(verifiers=bench.keys.verifiers({"pipeline"}))
        self.contents.add(self.content)
        for name in ("a", "b"):
            if bench.local_objects.info(bench.uri(name)) is not None:
                verify_artifact(bench.local_objects, bench.uri(name), demand)

    def finish(self):
        """A last run that nobody kills; then what is left is what it published."""
        self.start()
        assert self.end() == 0
        assert self.bench.left_in_scratch() == []
        assert list(self.bench.data.rglob("*.aside")) == []
        assert self._read() == [self.content, self.content, self.content]
        self.check()
        self._sequence()

    def _read(self):
        found = []
        names = ("a", "b")
        module = sys.modules[type(self.bench).__module__]
        plan = module.a_plan(
            inputs=[Input(name=name, uri=self.bench.uri(name)) for name in names], task_id="read"
        )

        def body(bound):
            found.extend(
                path.read_text() for path in (bound["a"], bound["b"] / "one", bound["b"] / "two")
            )

        self.bench.run(plan, body)
        return found

    def _sequence(self):
        """Every event that a run knew to be durable is in the log."""
        bench = self.bench
        signer = Path(bench.settings.audit_signer_dir)
        init_log(signer, "example.org")
        command = [sys.executable, "-I", "-m", "airflow_secure_ml.sequencer", "--once"]
        command += ["--audit-dir", bench.audit_dir, "--signer-dir", signer]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr
        with SqliteAuditReader(bench.audit_dir / LOG_FILE).whole() as log:
            events = [canonical.decode(data) for _, data, _ in log.leaves()]
        assert self.acked
        assert self.acked - {f"{event['emitter']}:{event['seq']}" for event in events} == set()
        assert plaintext(self.canary, bench.folder) == []

    def close(self):
        if self.is_running:
            self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(DEADLINE_S) in ((-signal.SIGKILL,) if self.is_running else (0,))


def plaintext(canary, *folders):
    """Files that hold the canary."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            # Another process may still remove what it made aside.
            with contextlib.suppress(FileNotFoundError):
                if canary in path.name or (path.is_file() and canary.encode() in path.read_bytes()):
                    found.append(str(path))
    return found


@pytest.fixture
def victim(bench):
    bench.put("table", "the input")
    made = Victim(bench)
    yield made
    made.close()


def test_the_search_finds_what_is_planted(victim, shm):
    for folder in (shm, victim.bench.data, victim.temporary, victim.bench.audit_dir):
        planted = folder / "planted"
        planted.write_text(f"x{victim.canary}x")

        found = plaintext(victim.canary, victim.bench.folder, shm)

        assert found == [str(planted)]
        planted.unlink()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_a_step_leaves_nothing_half_done(victim, step):
    for _ in range(TRIES):
        victim.start(step)
        status = victim.end()

        assert victim.steps[-1] == step, "the step was not hit"
        assert status == -signal.SIGKILL
        victim.check()
    victim.finish()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_at_any_moment_leaves_nothing_half_done(victim, seed):
    kill_at_random(victim, seed, rounds=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_many_more_kills_at_any_moment_leave_nothing_half_done(victim, seed):
    kill_at_random(victim, seed, rounds=16)


def kill_at_random(victim, seed, rounds):
    """Kill as often after each step as after any other, a moment later than it was passed.

    The run waits at its end, so every kill meets it; only how far it got is left to chance.
    """
    moments = random.Random(seed)
    marks = moments.sample(["the start", *STEPS] * rounds, (1 + len(STEPS)) * rounds)
    after = Counter()
    for mark in marks:
        pid = victim.start(waits=True)
        if mark != "the start":
            victim.reach(mark)
        let_pass(moments.uniform(0, LATER_S))
        os.kill(pid, signal.SIGKILL)
        assert victim.end() == -signal.SIGKILL
        after[victim.steps[-1] if victim.steps else "the start"] += 1
        victim.check()

    print(dict(after))
    victim.finish()


def let_pass(seconds):
    """Busy: a sleep is as coarse as many steps are long. A moment that is too long does no harm."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
