"""What fails around a run: the trail, scratch, the guardian, the clock; and a try after another."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from airflow_secure_ml.adapters.guardian_process import Guardian
from airflow_secure_ml.errors import (
    ConfigurationError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.run_plan import Input, Output


class FailingSystem:
    """Module os, whose durable write fails at the points that a test names, counted from 1."""

    def __init__(self, *points):
        self.points, self.count, self.at_point = points, 0, lambda number: None

    def __getattr__(self, name):
        return getattr(os, name)

    def fdatasync(self, descriptor):
        self.count += 1
        self.at_point(self.count)
        if self.count in self.points or "all" in self.points:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        os.fdatasync(descriptor)


class Watched:
    """A key system that counts how often it is asked."""

    def __init__(self, keys):
        self._keys, self.asked = keys, []

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self._keys, name)


def an_output(bench, plan, name="x"):
    return plan(outputs=[Output(name="out", uri=bench.uri(name))])


def with_an_input(bench, plan):
    bench.put("table")
    item, output = (
        Input(name="table", uri=bench.uri("table")),
        Output(name="out", uri=bench.uri("x")),
    )
    return plan(inputs=[item], outputs=[output])


def write(bound):
    bound["out"].write_text("data")


def test_without_a_trail_no_key_is_asked_and_no_scratch_is_made(bench, plan, with_parts):
    """Point 1."""
    keys, made = [], []

    def watch(desk):
        keys.append(Watched(desk.keys))

        def make_scratch(need):
            made.append(need)
            return desk.make_scratch(need)

        return with_parts(desk, keys=keys[-1], make_scratch=make_scratch)

    bench.change = watch
    sink = bench.sink(system=FailingSystem("all"))

    with pytest.raises(ServiceUnavailableError) as caught:
        bench.run(an_output(bench, plan), lambda _: pytest.fail("the body ran"), sink=sink)

    assert caught.value.why == "audit_unavailable"
    assert keys[0].asked == []
    assert made == []
    assert bench.published() == {}


def test_a_spool_that_cannot_be_made_refuses_at_point_1(bench, plan):
    bench.audit_dir.write_text("a file where the trail's directory should be")

    with pytest.raises(ServiceUnavailableError) as caught:
        bench.run(an_output(bench, plan), lambda _: pytest.fail("the body ran"))

    assert caught.value.why == "audit_unavailable"
    assert str(bench.audit_dir) in str(caught.value)


@pytest.mark.parametrize("point", [2, 3], ids=["before the body", "before publishing"])
def test_a_point_that_is_not_reached_publishes_nothing(bench, plan, point):
    system, ran = FailingSystem(), []

    def fail_at(number):
        if number >= point:
            system.points = ("all",)

    system.at_point = fail_at

    def body(bound):
        ran.append(True)
        write(bound)

    made = with_an_input(bench, plan)

    with pytest.raises(ServiceUnavailableError) as caught:
        bench.run(made, body, sink=bench.sink(system=system))

    assert caught.value.why == "audit_unavailable"
    assert ran == ([] if point == 2 else [True])
    assert list(bench.published()) == ["table"]
    assert not bench.path("x.sig").exists()
    assert bench.left_in_scratch() == []


def test_at_point_4_outputs_stand_and_the_task_fails(bench, plan):
    system = FailingSystem()

    def fail_at(number):
        if number >= 4:
            system.points = ("all",)

    system.at_point = fail_at
    made = with_an_input(bench, plan)

    with pytest.raises(ServiceUnavailableError) as caught:
        bench.run(made, write, sink=bench.sink(system=system))

    assert caught.value.why == "audit_unavailable"
    assert bench.read("x") == "data"


def test_a_body_that_raised_is_heard_though_point_4_failed(bench, plan):
    system = FailingSystem()

    def body(bound):
        system.points = ("all",)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.run(an_output(bench, plan), body, sink=bench.sink(system=system))

    assert "audit" in bench.told[-1]


def test_where_the_platform_says_continue_the_work_goes_on(bench, plan):
    bench.configure(audit_unavailable="continue")
    system = FailingSystem("all")
    sink = bench.sink(system=system)

    bench.run(an_output(bench, plan), write, sink=sink)
    system.points = ()
    bench.run(an_output(bench, plan, "y"), write, sink=sink)

    assert bench.read("x") == "data"
    loss = [event for event in bench.events() if event["act"] == "emitter.loss"]
    assert [event["more"]["points"] for event in loss] == [4]


def test_without_a_guardian_nothing_is_opened(bench, plan, with_parts):
    bench.put("x")

    def broken(desk):
        return with_parts(desk, guard=lambda root: Guardian.start(scratch=[root], python="/no/py"))

    bench.change = broken
    item = Input(name="table", uri=bench.uri("x"))

    error, said = bench.refusal(plan(inputs=[item]))

    assert said == [("task.secure", "guardian_unavailable")]
    assert "/no/py" in str(error)


def test_a_guardian_that_died_before_the_opening_refuses_it(bench, plan, with_parts):
    bench.put("x")

    def killed(desk):
        def guard(root):
            made = desk.guard(root)
            os.kill(made.pid, signal.SIGKILL)
            return made

        return with_parts(desk, guard=guard)

    bench.change = killed
    item = Input(name="table", uri=bench.uri("x"))

    _, said = bench.refusal(plan(inputs=[item]))

    assert said == [("task.secure", "guardian_unavailable")]


def test_a_guardian_that_dies_in_the_body_leaves_nothing_behind(bench, plan, with_parts):
    guards = []

    def kept(desk):
        def guard(root):
            guards.append(desk.guard(root))
            return guards[-1]

        return with_parts(desk, guard=guard)

    bench.change = kept

    def body(bound):
        write(bound)
        os.kill(guards[0].pid, signal.SIGKILL)

    bench.run(an_output(bench, plan), body)

    assert bench.left_in_scratch() == []
    bench.change = lambda desk: desk
    assert bench.read("x") == "data"


def test_scratch_that_is_too_small_is_refused_before_anything_is_opened(bench, plan, with_parts):
    bench.put("x", "1" * 5000)
    asked = []

    def small(desk):
        def make_scratch(need):
            asked.append(need)
            raise ConfigurationError("no scratch directory has room")

        return with_parts(desk, make_scratch=make_scratch)

    bench.change = small
    item = Input(name="table", uri=bench.uri("x"))

    _, said = bench.refusal(plan(inputs=[item]))

    assert said == [("task.secure", "misconfigured")]
    assert 5000 < asked[0] < 10_000


def test_what_a_killed_task_left_in_scratch_is_swept_by_the_next(bench, plan, shm):
    left = shm / f"asml-{'0' * 32}"
    left.mkdir(mode=0o700)
    (left / ".owner").touch()
    (left / "table").write_text("plaintext")

    bench.run(an_output(bench, plan), write)

    assert bench.left_in_scratch() == []


def test_a_clock_set_back_changes_nothing_but_the_times(bench, plan, with_parts):
    bench.put("x", "old", task_id="train")
    bench.change = lambda desk: with_parts(desk, now_ms=lambda: 86_400_000)

    bench.run(an_output(bench, plan), lambda bound: bound["out"].write_text("new"))

    assert bench.read("x") == "new"
    bench.change = lambda desk: desk
    bench.run(an_output(bench, plan), lambda bound: bound["out"].write_text("newer"))
    assert bench.read("x") == "newer"


def test_a_clock_set_back_lets_nobody_else_take_the_address(bench, plan, with_parts):
    bench.put("x", "old", task_id="train")
    bench.change = lambda desk: with_parts(desk, now_ms=lambda: 86_400_000)
    other = plan(outputs=[Output(name="out", uri=bench.uri("x"))], task_id="other")

    _, said = bench.refusal(other, error=PolicyError)

    assert said == [("object.publish", "address_taken"), ("task.secure", "address_taken")]


@pytest.mark.parametrize("act", ["object.seal", "object.sign", "object.publish"])
def test_a_retry_after_a_half_finished_try_finishes(bench, plan, act):
    """The first try dies right after that act; the second does everything anew."""

    class Death(BaseException):
        pass

    class Dying:
        def __init__(self, sink):
            self.sink, self.settle, self.close = sink, sink.settle, sink.close

        def record(self, fact):
            name = self.sink.record(fact)
            if fact.act == act and fact.phase == "outcome":
                raise Death
            return name

    outputs = [Output(name=name, uri=bench.uri(name)) for name in ("a", "b")]

    def body(text):
        return lambda bound: [path.write_text(text) for path in bound.values()]

    with pytest.raises(Death):
        bench.run(plan(outputs=outputs), body("first"), sink=Dying(bench.sink()))
    bench.run(plan(outputs=outputs), body("second"))

    assert [bench.read("a"), bench.read("b")] == ["second", "second"]
    assert bench.left_in_scratch() == []
    assert list(bench.data.rglob("*.aside")) == []


def test_an_error_of_the_package_that_the_body_got_is_the_bodys_own(bench, plan):
    sink, own = bench.sink(), PolicyError("from a client that the body called")

    def body(bound):
        raise own

    with pytest.raises(SecureMLError) as caught:
        bench.run(an_output(bench, plan), body, sink=sink)

    assert caught.value is own
    assert bench.acts(sink.emitter)[-1] == ("task.secure", "outcome", "failed", "task_raised")


def test_scratch_that_cannot_be_removed_fails_the_task_and_says_so(bench, plan, with_parts):
    class Stuck:
        def __init__(self, scratch):
            self.scratch, self.root, self.path_for = scratch, scratch.root, scratch.path_for

        def shred(self):
            self.scratch.shred()
            raise ServiceUnavailableError(service="scratch", action="shred", reason="still written")

    bench.change = lambda desk: with_parts(
        desk, make_scratch=lambda need: Stuck(desk.make_scratch(need))
    )
    sink = bench.sink()

    with pytest.raises(ServiceUnavailableError):
        bench.run(an_output(bench, plan), write, sink=sink)

    assert bench.acts(sink.emitter)[-2:] == [
        ("scratch.shred", "outcome", "failed", "service_unavailable"),
        ("task.secure", "outcome", "failed", "service_unavailable"),
    ]
