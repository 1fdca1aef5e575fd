"""What a secured run does when all is well: every kind of input and output, and what it records."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.services.run_plan import Input, Output, Pin

ROWS = "age,name\n41,ada\n17,alan\n"
GROWN = "age,name\n41,ada\n35,joan\n"


def test_a_file_is_sealed_signed_and_opened_again(bench):
    bench.put("people.csv")

    text = bench.read("people.csv")

    assert text == ROWS
    assert bench.path("people.csv").read_bytes().startswith(MAGIC)
    assert b"ada" not in bench.path("people.csv").read_bytes()
    assert bench.left_in_scratch() == []


def test_each_act_of_a_run_is_recorded_in_its_order(bench, plan):
    bench.put("people.csv")
    sink = bench.sink()
    item, output = (
        Input(name="table", uri=bench.uri("people.csv")),
        Output(name="out", uri=bench.uri("out.csv")),
    )

    bench.run(
        plan(inputs=[item], outputs=[output]),
        lambda bound: bound["out"].write_text("x"),
        sink=sink,
    )

    assert bench.acts(sink.emitter) == [
        ("emitter.open", "seen", "ok", None),
        ("task.secure", "intent", None, None),
        ("object.verify", "outcome", "ok", None),
        ("object.open", "outcome", "ok", None),
        ("object.seal", "outcome", "ok", None),
        ("object.publish", "intent", None, None),
        ("object.sign", "outcome", "ok", None),
        ("object.publish", "outcome", "ok", None),
        ("scratch.shred", "outcome", "ok", None),
        ("task.secure", "outcome", "ok", None),
    ]


def test_a_directory_goes_and_comes_back_whole(bench, plan):
    def make(bound):
        (bound["out"] / "deep").mkdir(parents=True)
        (bound["out"] / "a.txt").write_text("first")
        (bound["out"] / "deep" / "b c%.txt").write_text("second")

    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), make)
    seen = {}

    def look(bound):
        root = bound["table"]
        seen.update({str(p.relative_to(root)): p.read_text() for p in root.rglob("*.txt")})

    bench.run(plan(inputs=[Input(name="table", uri=bench.uri("set"))]), look)

    assert seen == {"a.txt": "first", "deep/b c%.txt": "second"}


def test_a_list_of_inputs_is_a_list_of_paths_in_its_order(bench, plan):
    bench.put("b.csv", "2")
    bench.put("a.csv", "1")
    items = [Input(name="parts", uri=bench.uri(name)) for name in ("b.csv", "a.csv")]
    seen = []

    bench.run(plan(inputs=items), lambda bound: seen.extend(p.read_text() for p in bound["parts"]))

    assert seen == ["2", "1"]


def test_a_stream_puts_nothing_into_scratch(bench, plan):
    bench.put("people.csv")
    seen = []

    def body(bound):
        bound["table"].seek(4)
        seen.extend([bound["table"].read(), bench.left_in_scratch()])

    item = Input(name="table", uri=bench.uri("people.csv"), stream=True)
    bench.run(plan(inputs=[item]), body)

    assert seen == [ROWS[4:].encode(), []]


def test_a_plain_input_is_read_where_it_is_allowed(bench):
    bench.path("open.csv").write_text("free")

    text = bench.read("open.csv", sealed=False)

    assert text == "free"


def test_a_plain_output_is_signed_and_not_sealed(bench):
    bench.put("report.txt", "for all", output={"sealed": False})

    text = bench.read("report.txt", sealed=False, signed_by=("pipeline",))

    assert text == "for all"
    assert bench.path("report.txt").read_text() == "for all"


def test_an_empty_file_goes_and_comes_back(bench):
    bench.put("nothing.bin", "")

    assert bench.read("nothing.bin") == ""


def test_a_reference_pins_what_it_names(bench, plan):
    reference = bench.put("people.csv")
    pin = Pin(digest=reference["digest"], by="reference", dag_id="churn", run_id="r1")
    item = Input(name="table", uri=reference["uri"], pin=pin)
    seen = []

    bench.run(plan(inputs=[item]), lambda bound: seen.append(bound["table"].read_text()))

    assert seen == [ROWS]
    assert {k: reference[k] for k in ("name", "bytes", "key", "signed_by", "secure_ml")} == {
        "name": "out",
        "bytes": len(ROWS),
        "key": "data/1",
        "signed_by": ["pipeline"],
        "secure_ml": 1,
    }


def test_the_same_task_replaces_its_own_object(bench):
    bench.put("people.csv", "old", run_id="r1")

    bench.put("people.csv", "new", run_id="r2")

    assert bench.read("people.csv") == "new"


def test_a_directory_is_replaced_as_a_whole(bench, plan):
    output = Output(name="out", uri=bench.uri("set"))
    for name in ("old.txt", "new.txt"):

        def make(bound, name=name):
            bound["out"].mkdir()
            (bound["out"] / name).write_text(name)

        bench.run(plan(outputs=[output]), make)

    assert sorted(name for name in bench.published() if "_asml" not in name) == ["set/new.txt"]


def test_a_verdict_in_the_signed_statement_is_not_computed_again(bench, plan, suite, with_parts):
    source = SuiteSource.from_file(suite())
    bench.put("grown.csv", GROWN, output={"suite": source})
    bench.change = lambda desk: with_parts(desk, checker=lambda: OnlyDigests(desk.checker()))
    item = Input(name="table", uri=bench.uri("grown.csv"), suite=source)
    sink, seen = bench.sink(), []

    bench.run(plan(inputs=[item]), lambda bound: seen.append(bound["table"].read_text()), sink=sink)

    validated = [e for e in bench.events() if e["act"] == "object.validate"]
    assert seen == [GROWN]
    assert validated[-1]["more"]["trusted"] is True


class OnlyDigests:
    """A checker that may be asked what a suite is, and nothing else."""

    def __init__(self, checker):
        self.suite_digest = checker.suite_digest

    def check(self, *_, **__):
        raise AssertionError("computed again")


def test_failing_rows_are_sealed_aside_and_the_rest_goes_on(bench, plan, suite):
    bench.put("people.csv")
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("bad.csv"),
    )
    seen = []

    bench.run(plan(inputs=[item]), lambda bound: seen.append(bound["table"].read_text()))

    assert seen == ["age,name\n41,ada\n"]
    assert bench.read("bad.csv") == "age,name\n17,alan\n"
    assert bench.path("bad.csv").read_bytes().startswith(MAGIC)


def test_a_body_that_raises_publishes_nothing_and_is_not_blamed_on_the_package(bench, plan):
    sink = bench.sink()

    def body(bound):
        bound["out"].write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.run(plan(outputs=[Output(name="out", uri=bench.uri("x"))]), body, sink=sink)

    assert bench.published() == {}
    assert bench.left_in_scratch() == []
    assert bench.acts(sink.emitter)[-1] == ("task.secure", "outcome", "failed", "task_raised")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_exception_that_is_no_error_passes_and_publishes_nothing(bench, plan, error):
    sink = bench.sink()

    def body(bound):
        bound["out"].write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        bench.run(plan(outputs=[Output(name="out", uri=bench.uri("x"))]), body, sink=sink)

    assert caught.value is error
    assert bench.published() == {}
    assert bench.left_in_scratch() == []
    assert bench.acts(sink.emitter)[-1] == ("task.secure", "outcome", "failed", "task_raised")
