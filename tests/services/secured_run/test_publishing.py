"""Publishing beside others: whose place it is, who stops it, and what stands when it fails."""

from __future__ import annotations

import errno
import os

import pytest

from airflow_secure_ml.errors import ConfigurationError, PolicyError, ServiceUnavailableError
from airflow_secure_ml.services.run_plan import Output


def test_what_another_task_wrote_is_not_replaced(bench, plan):
    bench.put("x.csv", task_id="other")
    made = plan(outputs=[Output(name="out", uri=bench.uri("x.csv"))])

    error, said = bench.refusal(made, error=PolicyError)

    assert "churn.other" in str(error)
    assert said == [("object.publish", "address_taken"), ("task.secure", "address_taken")]


def test_what_nobody_signed_is_not_replaced(bench, plan):
    bench.path("x.csv").write_text("somebody's")
    made = plan(outputs=[Output(name="out", uri=bench.uri("x.csv"))])

    _, said = bench.refusal(made, error=PolicyError)

    assert said == [("object.publish", "address_taken"), ("task.secure", "address_taken")]


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
def test_of_two_tasks_that_write_one_object_at_once_one_is_refused(bench, plan, directory):
    """Both found the address free; the second comes between the first's statement and object."""
    output = Output(name="out", uri=bench.uri("x"))

    def write(text):
        def body(bound):
            if directory:
                bound["out"].mkdir()
            (bound["out"] / "a" if directory else bound["out"]).write_text(text)

        return body

    def other_is_faster():
        bench.run(plan(outputs=[output], task_id="b"), write("from b"))

    with pytest.raises(PolicyError) as caught:
        bench.run(
            plan(outputs=[output], task_id="a"),
            write("from a"),
            sink=Meanwhile(bench.sink(), "object.sign", other_is_faster),
        )

    assert caught.value.why == "address_taken"
    with pytest.raises(PolicyError, match=r"churn\.b"):
        bench.run(plan(outputs=[output], task_id="a"), write("again"))
    bench.run(plan(outputs=[output], task_id="b"), write("b may"))


def test_of_two_mapped_instances_that_replace_one_object_at_once_the_later_is_refused(bench, plan):
    output = Output(name="out", uri=bench.uri("x"))

    def write(text):
        return lambda bound: bound["out"].write_text(text)

    bench.run(plan(outputs=[output], map_index=0), write("first"))

    def again():
        bench.run(plan(outputs=[output], map_index=0), write("second"))

    with pytest.raises(PolicyError) as caught:
        bench.run(
            plan(outputs=[output], map_index=0),
            write("third"),
            sink=Meanwhile(bench.sink(), "object.sign", again),
        )

    assert caught.value.why == "address_taken"
    assert bench.read("x") == "second"
    with pytest.raises(PolicyError):
        bench.run(plan(outputs=[output], map_index=1), write("another instance"))


class Meanwhile:
    """A sink that lets something else happen right after an act was recorded, once."""

    def __init__(self, sink, act, meanwhile):
        self.sink, self.act, self.meanwhile = sink, act, meanwhile
        self.settle, self.close = sink.settle, sink.close

    def record(self, fact):
        name = self.sink.record(fact)
        if fact.act == self.act and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return name


@pytest.mark.parametrize("second", ["x", "x/part"], ids=["same", "below"])
def test_two_outputs_of_one_run_need_two_places(bench, plan, second):
    outputs = [Output(name="a", uri=bench.uri("x")), Output(name="b", uri=bench.uri(second))]

    _, said = bench.refusal(plan(outputs=outputs), error=ConfigurationError)

    assert said == [("object.publish", "misconfigured"), ("task.secure", "misconfigured")]


def test_an_output_that_fails_keeps_the_others_from_being_published(bench, plan):
    outputs = [Output(name=name, uri=bench.uri(name)) for name in ("a", "b")]

    _, said = bench.refusal(plan(outputs=outputs), lambda bound: bound["a"].write_text("fine"))

    assert said == [("object.seal", "output_missing"), ("task.secure", "output_missing")]
    assert not bench.path("a.sig").exists()


def test_a_try_that_is_no_longer_ours_publishes_nothing(bench, plan):
    def gone():
        raise PolicyError("the supervisor is gone", why="try_replaced")

    made = plan(outputs=[Output(name="out", uri=bench.uri("x"))])

    _, said = bench.refusal(made, lambda bound: bound["out"].write_text("x"), still_ours=gone)

    assert said == [("object.publish", "try_replaced"), ("task.secure", "try_replaced")]
    assert not bench.path("x.sig").exists()


def test_a_run_that_was_told_to_stop_publishes_nothing_though_its_body_finished(bench, plan):
    made = plan(outputs=[Output(name="out", uri=bench.uri("x"))])

    runs = []
    secured = bench.secured
    bench.secured = lambda *arguments, **how: runs.append(secured(*arguments, **how)) or runs[-1]

    def body(bound):
        bound["out"].write_text("x")
        runs[-1].forbid_publishing()

    _, said = bench.refusal(made, body)

    assert said == [("object.publish", "try_replaced"), ("task.secure", "try_replaced")]


def test_a_reader_between_statement_and_object_gets_the_old_bytes(bench, plan):
    bench.put("x", "old", task_id="train")
    seen = []
    made = plan(outputs=[Output(name="out", uri=bench.uri("x"))])

    bench.run(
        made,
        lambda bound: bound["out"].write_text("new"),
        sink=Meanwhile(bench.sink(), "object.sign", lambda: seen.append(bench.read("x"))),
    )

    assert seen == ["old"]
    assert bench.read("x") == "new"


def test_a_full_disk_while_sealing_leaves_the_old_object(bench, plan, with_parts):
    bench.put("x", "old", task_id="train")
    bench.change = lambda desk: with_parts(desk, store=lambda uri: Full(desk.store(uri)))
    made = plan(outputs=[Output(name="out", uri=bench.uri("x"))])

    error, said = bench.refusal(made, lambda bound: bound["out"].write_text("new"))

    assert isinstance(error, ServiceUnavailableError)
    assert "No space left" in str(error)
    assert said == [("object.seal", "service_unavailable"), ("task.secure", "service_unavailable")]


class Full:
    """A store on a file system that takes no more bytes."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, uri):
        writer = self._store.create(uri)

        def write_at(*_):
            reason = os.strerror(errno.ENOSPC)
            raise ServiceUnavailableError(service="object store", action="write", reason=reason)

        writer.write_at = write_at
        if hasattr(writer, "copy_range"):
            writer.copy_range = write_at
        return writer


def test_a_failure_between_two_publishes_says_which_stands(bench, plan, with_parts):
    class Second:
        """A store whose last commit fails."""

        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def create(self, uri):
            writer = self._store.create(uri)
            if uri.endswith("/b"):

                def commit(**_):
                    raise ServiceUnavailableError(service="store", action="publish", reason="gone")

                writer.commit = commit
            return writer

    bench.change = lambda desk: with_parts(desk, store=lambda uri: Second(desk.store(uri)))
    outputs = [Output(name=name, uri=bench.uri(name)) for name in ("a", "b", "c")]
    sink = bench.sink()

    def body(bound):
        for path in bound.values():
            path.write_text("x")

    with pytest.raises(ServiceUnavailableError):
        bench.run(plan(outputs=outputs), body, sink=sink)

    published = [
        (event["object"]["name"], event["result"])
        for event in bench.events()
        if event["act"] == "object.publish" and event["phase"] == "outcome"
    ]
    assert published == [("a", "ok"), ("b", "failed"), ("c", "failed")]
    assert list(bench.published()) == ["a"]
    bench.change = lambda desk: desk
    bench.run(plan(outputs=outputs), body)
    assert bench.read("c") == "x"


def test_a_log_that_nobody_reads_any_more_stops_nothing(bench, plan, with_parts):
    def gone(_):
        raise BrokenPipeError

    bench.told = Told(gone)
    outputs = [Output(name=name, uri=bench.uri(name)) for name in ("a", "b")]

    bench.run(plan(outputs=outputs), lambda bound: [p.write_text("x") for p in bound.values()])

    assert sorted(bench.published()) == ["a", "b"]


class Told:
    def __init__(self, append):
        self.append = append
