"""execution_timeout, on_kill and bodies that leave in unusual ways, around a wrapped task."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_secure_ml import secure
from airflow_secure_ml.errors import SecureMLError

LEFT_S, DEADLINE_S = 0.1, 60


def linger(seconds=DEADLINE_S):
    """Work for so long in Python, where an exception of the timer may strike."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def let_run_out(left_s=LEFT_S):
    """Leave a moment of the task's timeout."""
    signal.setitimer(signal.ITIMER_REAL, left_s)


def let_strike():
    """Work for as long as the timer is set: if it may strike here, it does."""
    while signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        pass


def a_task(bench, body, reads=None):
    with DAG("churn", schedule=None):
        operator = PythonOperator(task_id="train", python_callable=body)
    writes = {"out": str(bench.path("out"))}
    return secure(operator, reads=reads or {}, writes=writes)


def slow_at(bench, place, before=lambda: None):
    """A desk whose one step takes longer than the timeout; returns where it lingered."""
    lingered = []

    def slowly(call):
        def called(*arguments, **how):
            result = call(*arguments, **how)
            lingered.append(place)
            before()
            let_strike()
            return result

        return called

    def change(desk):
        if place == "scratch":
            return dataclasses.replace(desk, make_scratch=slowly(desk.make_scratch))
        if place == "ready":
            return dataclasses.replace(desk, guard=of_guard(desk.guard, "ready", slowly))
        if place == "shred":
            return dataclasses.replace(desk, guard=of_guard(desk.guard, "finish", slowly))
        if place == "opening":
            return dataclasses.replace(desk, scratch_store=Slow(desk.scratch_store, slowly))
        return dataclasses.replace(
            desk, store=lambda uri: Slow(desk.store(uri), slowly, place == "publish")
        )

    bench.change = change
    return lingered


def of_guard(start, name, slowly):
    def started(root):
        guard = start(root)
        setattr(guard, name, slowly(getattr(guard, name)))
        return guard

    return started


class Slow:
    """A store that takes its time to write, or to commit."""

    def __init__(self, store, slowly, commit=False):
        self._store, self._slowly, self._commit = store, slowly, commit

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, uri):
        writer = self._store.create(uri)
        act = "commit" if self._commit else "write_at"
        setattr(writer, act, self._slowly(getattr(writer, act)))
        return writer


def last_why(bench):
    ends = [act for act in bench.acts() if act[:2] == ("task.secure", "outcome")]
    return ends[-1][2:]


@pytest.mark.parametrize("place", ["seal", "publish", "shred"])
def test_the_timer_does_not_strike_after_the_body(bench, execute, place):
    lingered = slow_at(bench, place)

    def body(out):
        out.write_text("made")
        # Longer than it takes to get out of the body on any machine.
        let_run_out(DEADLINE_S)

    execute(a_task(bench, body))

    assert lingered
    bench.change = lambda desk: desk
    assert bench.read("out") == "made"
    assert last_why(bench) == ("ok", None)


@pytest.mark.parametrize("place", ["scratch", "ready", "opening"])
def test_a_timeout_before_the_body_is_one_in_the_trail_and_leaves_nothing(bench, execute, place):
    bench.put("table", "plaintext")
    lingered = slow_at(bench, place, let_run_out)
    operator = a_task(
        bench, lambda table, out: pytest.fail("the body ran"), {"table": str(bench.path("table"))}
    )

    with pytest.raises(AirflowTaskTimeout):
        execute(operator)

    assert lingered
    assert last_why(bench) == ("failed", "timed_out")
    # Struck while it was made, a directory may be left to the next sweep, without anything in it.
    assert [path for path in bench.shm.rglob("*") if path.is_file() and path.name != ".owner"] == []
    assert list(bench.published()) == ["table"]


def test_a_timeout_in_the_body_publishes_nothing(bench, execute):
    def body(out):
        out.write_text("half")
        let_run_out()
        linger()

    with pytest.raises(AirflowTaskTimeout):
        execute(a_task(bench, body))

    assert last_why(bench) == ("failed", "timed_out")
    assert bench.published() == {}
    assert bench.left_in_scratch() == []


def test_a_body_that_swallows_the_timeout_has_finished(bench, execute):
    """As without secure(): such a task succeeds, so what it made is published, and whole."""

    def body(out):
        try:
            let_run_out()
            linger()
        except AirflowTaskTimeout:
            out.write_text("all the same")

    execute(a_task(bench, body))

    assert bench.read("out") == "all the same"


def test_a_body_that_finishes_after_on_kill_publishes_nothing(bench, execute):
    def body(out):
        out.write_text("too late")
        operator.on_kill()

    operator = a_task(bench, body)

    with pytest.raises(SecureMLError) as caught:
        execute(operator)

    assert caught.value.why == "try_replaced"
    assert last_why(bench) == ("refused", "try_replaced")
    assert bench.published() == {}
    assert bench.left_in_scratch() == []


def test_on_kill_in_a_signal_handler_during_the_body_is_enough(bench, execute):
    def body(out):
        out.write_text("too late")
        signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
        os.kill(os.getpid(), signal.SIGTERM)
        linger(0.05)

    operator = a_task(bench, body)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SecureMLError):
            execute(operator)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert bench.published() == {}


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(0), Odd("odd"), KeyboardInterrupt()], ids=repr)
def test_what_a_body_raises_passes_unchanged(bench, execute, error):
    def body(out):
        out.write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        execute(a_task(bench, body))

    assert caught.value is error
    assert last_why(bench) == ("failed", "task_raised")
    assert bench.published() == {}
    assert bench.left_in_scratch() == []


def test_a_body_that_ends_the_process_leaves_nothing(bench, execute, shm):
    def body(out):
        out.write_text("half")
        os._exit(3)

    child = os.fork()
    if child == 0:
        try:
            execute(a_task(bench, body))
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    until(lambda: bench.left_in_scratch() == [])
    assert bench.published() == {}
    until(lambda: ("scratch.shred", "seen", "ok", None) in bench.acts())


def until(condition, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
