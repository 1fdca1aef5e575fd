"""The reconciler's process: one round at a time, and no longer than the scheduler it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.reconciling import program
from airflow_secure_ml.reconciling.program import _round_lock
from airflow_secure_ml.reconciling.spool import await_taken, ended_segments
from airflow_secure_ml.reconciling.starting import start_reconciler, stop_reconciler

DEADLINE_S = 60
# A process that starts a reconciler as a scheduler does, says its id, and stays.
SCHEDULER = """
import sys, time
from airflow_secure_ml.reconciling import starting
assert starting.start_reconciler(300)
assert not starting.start_reconciler(300)
print(next(iter(starting._started.values())).pid, flush=True)
sys.stdin.read()
{end}
"""


def until(found, describe=lambda: ""):
    deadline = time.monotonic() + DEADLINE_S
    while not found():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.05)


def is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


@pytest.fixture
def home(tmp_path):
    found = {name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW__")}
    return found | {"AIRFLOW_HOME": str(tmp_path)}


@pytest.fixture
def scheduler(home):
    """Starts a scheduler in this test's own home; returns it and its reconciler's process id."""
    started = []

    def start(end=""):
        process = subprocess.Popen(
            [sys.executable, "-c", SCHEDULER.format(end=end)],
            env=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        pid = int(process.stdout.readline())
        # Not before it could be told to end: until then the kernel has nothing to tell it.
        until(lambda: handles_sigterm(pid), lambda: str(command_line(pid)))
        return process, pid

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def handles_sigterm(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
    except FileNotFoundError:
        return False
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def test_it_ends_when_the_scheduler_is_killed(scheduler):
    process, pid = scheduler()
    assert is_alive(pid)

    process.kill()
    process.wait()

    until(lambda: not is_alive(pid), lambda: "it outlives its scheduler")


def test_it_ends_when_the_scheduler_tells_it(scheduler):
    process, pid = scheduler("starting.stop_reconciler(); time.sleep(60)")

    process.stdin.close()

    until(lambda: not is_alive(pid), lambda: "it was told to end")
    assert process.poll() is None


def test_a_forked_child_of_the_scheduler_ends_nobody(scheduler):
    process, pid = scheduler(
        "import os\nif os.fork() == 0: starting.stop_reconciler(); os._exit(0)\n"
        "os.wait(); print('waited', flush=True); time.sleep(60)"
    )

    process.stdin.close()

    assert process.stdout.readline() == "waited\n"
    assert is_alive(pid)


def test_the_scheduler_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    began = time.monotonic()

    assert start_reconciler(300)
    stop_reconciler()

    assert time.monotonic() - began < 5


def test_a_second_round_does_not_begin_beside_the_first(tmp_path):
    path = tmp_path / "audit" / "reconcile.lock"
    pid = os.fork()
    if pid == 0:
        try:
            with _round_lock(path, 0):
                (tmp_path / "locked").touch()
                signal.pause()
        finally:
            os._exit(0)
    try:
        until((tmp_path / "locked").exists)

        with pytest.raises(ServiceUnavailableError, match="another round goes on"):
            _round_lock(path, 0.2).__enter__()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    with _round_lock(path, 0):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_is_waited_for_where_a_process_has_ended(place):
    place.tell("019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b", "task.start")
    spool = [place.audit / "spool"]

    assert len(await_taken(spool, timeout_s=0)) == 1

    place.sequence()
    assert await_taken(spool, timeout_s=0) == frozenset()


def test_who_still_writes_is_not_waited_for(place):
    pid = os.fork()
    if pid == 0:
        try:
            spool = Spool(place.audit, "scheduler")
            spool.record(Fact(act="trail.view", phase="seen", result="ok"))
            spool.settle()
            (place.audit / "written").touch()
            signal.pause()
        finally:
            os._exit(0)
    try:
        until((place.audit / "written").exists)
        held = ended_segments([place.audit / "spool"])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    assert held == frozenset()
    assert len(ended_segments([place.audit / "spool"])) == 1


def test_what_is_no_segment_is_not_waited_for(tmp_path):
    (tmp_path / f"{'ab' * 16}-0000.seg").symlink_to("/dev/zero")
    (tmp_path / f"{'cd' * 16}-0000.tmp").touch()

    assert ended_segments([tmp_path, tmp_path / "nothing"]) == frozenset()


@pytest.fixture
def rounds(monkeypatch, caplog):
    """Runs rounds that fail for these reasons, then is told to end; returns what was logged."""

    def run(*reasons):
        left = list(reasons)

        def fail(**arguments):
            reason = left.pop(0)
            if not left:
                os.kill(os.getpid(), signal.SIGTERM)
            if reason is not None:
                raise reason
            return ()

        monkeypatch.setattr(program, "run_round", fail)
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            with caplog.at_level("INFO"):
                assert program.serve(0) == 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return [record.getMessage().partition(": ")[2] for record in caplog.records]

    return run


def test_a_trouble_that_lasts_is_told_once(rounds):
    lasting = ConfigurationError("no log")

    assert rounds(lasting, lasting, lasting, lasting) == ["no log"]


def test_a_trouble_that_passes_is_not_told(rounds):
    # Where nothing was recorded yet there is no log, until the first event.
    assert rounds(ConfigurationError("no log"), None, ConfigurationError("no log"), None) == []


def test_a_fault_ends_no_reconciler_and_shows_no_text(rounds):
    fault = RuntimeError("postgres://ann:hunter2@db")

    assert rounds(fault, fault, None) == ["RuntimeError"]
