"""Power loss, kill -9, a timer's exception and a fork, at any moment: what was settled is there."""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.spool import Spool, parts, sink

from .conftest import INTENT, RUN, System, read_spools


class PowerLoss(BaseException):
    """The machine stops."""


class Disk(System):
    """A disk that keeps what was synced, and of the rest what it likes.

    A file's bytes survive up to where they were at its last fdatasync; its name survives if the
    directory was synced after it was made, and the directory's own name likewise.
    """

    def __init__(self, stop_at):
        super().__init__()
        self.calls, self.stop_at = 0, stop_at
        self.paths, self.synced, self.listed = {}, {}, set()

    def _count(self):
        self.calls += 1
        if self.calls == self.stop_at:
            raise PowerLoss

    def makedirs(self, path, mode, exist_ok):
        self._count()
        os.makedirs(path, mode, exist_ok=exist_ok)

    def open(self, path, flags, mode=0o777):
        self._count()
        fd = os.open(path, flags, mode)
        self.paths[fd] = Path(path)
        return fd

    def close(self, fd):
        self._count()
        self.paths.pop(fd, None)
        os.close(fd)

    def write(self, fd, data):
        self._count()
        if shorten := self.failing.pop("short write", None):
            data = data[:shorten]
        return os.write(fd, data)

    def fdatasync(self, fd):
        self._count()
        self.synced[self.paths[fd]] = os.fstat(fd).st_size

    def fsync(self, fd):
        self._count()
        self.listed.update(self.paths[fd].iterdir())

    def survives(self, into, extra):
        """Copy what is left to `into`; `extra` makes what unsynced bytes became."""
        into.mkdir(parents=True)
        for path in {*self.synced, *self.paths.values()}:
            if path in self.listed and path.parent in self.listed and path.is_file():
                data, kept = path.read_bytes(), self.synced.get(path, 0)
                (into / path.name).write_bytes(data[:kept] + extra(data[kept:]))

    def end(self):
        """Close what ended with the machine; the spool must not close those numbers again."""
        self.stop_at = 0
        self.spool._after_fork()
        while self.paths:
            os.close(self.paths.popitem()[0])


REST = {
    "gone": lambda rest: b"",
    "zeros": lambda rest: bytes(len(rest)),
    "half": lambda rest: rest[: len(rest) // 2],
    "garbage": lambda rest: b"\xa5" * len(rest),
    "all": lambda rest: rest,
}


def work(system, folder, settled, fail_once_at=None):
    """Twelve events at four points; one write falls short if asked."""
    spool = system.spool = Spool(folder, "task", run=RUN, system=system)
    for point, count in enumerate([1, 5, 3, 3]):
        if point == fail_once_at:
            system.failing["short write"] = 50
        names = [spool.record(INTENT) for _ in range(count)]
        spool.settle()
        settled += names
    spool.close()


@pytest.mark.parametrize("short_at", [None, 0, 1, 3], ids="short_at={}".format)
@pytest.mark.parametrize("rest", REST)
def test_a_power_loss_at_any_call_loses_nothing_that_was_settled(tmp_path, rest, short_at):
    whole = Disk(stop_at=0)
    work(whole, tmp_path / "whole", [], short_at)

    for stop_at in range(1, whole.calls + 1):
        disk, settled = Disk(stop_at), []
        base = tmp_path / str(stop_at)
        with pytest.raises(PowerLoss):
            work(disk, base / "audit", settled, short_at)
        disk.survives(base / "left", REST[rest])
        disk.end()

        assert set(settled) <= read_spools(base / "left").names()
    assert whole.calls > 12


def forked(body):
    """Run `body(write_end)` in a child; returns its pid and the pipe's read end."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            body(write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    return pid, read_end


def write_for_ever(folder, ack):
    spool = Spool(folder, "task", run=RUN)
    while True:
        names = [spool.record(INTENT) for _ in range(3)]
        spool.settle()
        os.write(ack, "".join(f"{name}\n" for name in names).encode())


def read_until(pipe, lines, deadline_s=60):
    data, deadline = b"", time.monotonic() + deadline_s
    while data.count(b"\n") < lines and time.monotonic() < deadline:
        if select.select([pipe], [], [], 0.1)[0]:
            data += os.read(pipe, 65536)
    return data


def drain(pipe):
    data = b""
    while chunk := os.read(pipe, 65536):
        data += chunk
    os.close(pipe)
    return data


def test_a_writer_killed_200_times_loses_nothing_that_was_settled(tmp_path):
    chance = random.Random(20261122)
    acknowledged = 0
    for attempt in range(200):
        folder = tmp_path / str(attempt)
        pid, pipe = forked(lambda ack, folder=folder: write_for_ever(folder, ack))
        data = read_until(pipe, chance.randrange(0, 20))
        until = time.perf_counter_ns() + chance.randrange(0, 2_000_000)
        while time.perf_counter_ns() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        names = set((data + drain(pipe)).decode().split("\n")[:-1])

        assert names <= read_spools(folder).names()
        acknowledged += len(names)
    assert acknowledged > 1000


class Struck(BaseException):
    """What execution_timeout does: an exception between any two steps."""


def test_a_timers_exception_inside_the_write_loses_nothing(tmp_path):
    chance = random.Random(4)
    spool = Spool(tmp_path, "task", run=RUN)
    settled, strikes, turn, last = [], 0, 0, -1

    def strike(signum, where):
        nonlocal last
        # Once for each turn: never where nothing is tried, however long the timer had to wait.
        if turn != last:
            last = turn
            raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(400):
            turn += 1
            try:
                # Again after 0.2 s: one that strikes in a destructor is swallowed by Python.
                signal.setitimer(signal.ITIMER_REAL, chance.randrange(20, 500) / 1e6, 0.2)
                while True:
                    turn += 1
                    names = [spool.record(INTENT)]
                    spool.settle()
                    settled += names
            except Struck:
                strikes += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    settled.append(spool.record(INTENT))
    spool.settle()
    spool.close()

    assert strikes == 400
    assert len(settled) == len(set(settled))
    assert set(settled) <= read_spools(tmp_path).names()


def test_an_exception_after_any_line_of_the_write_loses_nothing(tmp_path):
    files = {sink.__file__, parts.__file__}
    # Their `with lock:` cannot be struck between its lines: no signal is looked at there.
    outer = {Spool.record.__code__, Spool.settle.__code__, Spool.close.__code__}
    left = [0]

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and frame.f_code not in outer:
            left[0] -= 1
            if left[0] == 0:
                raise Struck
        return trace

    strikes, before = 0, sys.gettrace()
    for at in range(1, 400):
        folder, settled = tmp_path / str(at), []
        spool = Spool(folder, "task", run=RUN)
        left[0] = at
        for _ in range(4):
            try:
                sys.settrace(trace)
                names = [spool.record(INTENT), spool.record(INTENT)]
                spool.settle()
                settled += names
            except Struck:
                strikes += 1
            finally:
                sys.settrace(before)
        settled.append(spool.record(INTENT))
        spool.settle()
        spool.close()

        assert set(settled) <= read_spools(folder).names()
    assert strikes > 150


def test_a_forked_child_is_an_emitter_of_its_own_and_writes_nothing_twice(tmp_path):
    spool = Spool(tmp_path, "task", run=RUN)
    spool.record(INTENT)
    spool.settle()
    waiting = spool.record(INTENT)

    def child(ack):
        name = spool.record(INTENT)
        spool.settle()
        os.write(ack, f"{name}\n".encode())

    pid, pipe = forked(child)
    names = drain(pipe).decode().split()
    os.waitpid(pid, 0)
    spool.settle()
    spool.close()

    found = read_spools(tmp_path)
    (childs,) = {name[:32] for name in names}
    assert childs != spool._parent
    assert found[childs][0]["more"]["parent"] == waiting[:32]
    assert [event["act"] for event in found[childs]] == ["emitter.open", "xcom.read"]
    assert [event["seq"] for event in found[waiting[:32]]] == [0, 1, 2, 3]


def test_a_fork_while_another_thread_writes_leaves_the_child_no_lock(tmp_path):
    import threading

    inside, go_on = threading.Event(), threading.Event()

    class Slow(System):
        def fdatasync(self, fd):
            if not inside.is_set():
                inside.set()
                go_on.wait(60)
            os.fdatasync(fd)

    spool = Spool(tmp_path, "task", run=RUN, system=Slow())
    spool.record(INTENT)
    thread = threading.Thread(target=spool.settle)
    thread.start()
    assert inside.wait(60)

    def child(ack):
        name = spool.record(INTENT)
        spool.settle()
        os.write(ack, f"{name}\n".encode())

    pid, pipe = forked(child)
    acknowledged = read_until(pipe, 1).decode().split()
    go_on.set()
    thread.join()
    os.waitpid(pid, 0)
    os.close(pipe)

    assert len(acknowledged) == 1
    assert set(acknowledged) <= read_spools(tmp_path).names()
