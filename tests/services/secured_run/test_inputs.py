"""Inputs that must not be opened: each is refused with its reason, and no body runs."""

from __future__ import annotations

import json
import os

import pytest

from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.run_plan import Input, Output, Pin


def refused(bench, plan, name="x.csv", *, act="object.verify", why, **how):
    item = Input(name="table", uri=bench.uri(name), **how)
    error, said = bench.refusal(plan(inputs=[item], task_id="read"))
    assert said == [(act, why), ("task.secure", why)]
    assert error.why == why
    return str(error)


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_nothing_there_is_named(bench, plan):
    message = refused(bench, plan, why="not_sealed")

    assert bench.uri("x.csv") in message
    assert "found nothing" in message


def test_a_plain_file_where_a_sealed_one_is_due_is_refused(bench, plan):
    bench.path("x.csv").write_text("age\n41\n")

    refused(bench, plan, why="not_sealed")


@pytest.mark.parametrize("at", [-1, 100, 9], ids=["last byte", "header", "version"])
def test_a_flipped_bit_is_refused(bench, plan, at):
    bench.put("x.csv")
    flip(bench.path("x.csv"), at)
    item = Input(name="table", uri=bench.uri("x.csv"))

    _, said = bench.refusal(plan(inputs=[item]))

    whys = {why for _, why in said}
    assert len(whys) == 1
    assert whys <= {"digest_differs", "not_sealed", "signature_invalid", "key_missing"}


def test_an_unsigned_sealed_file_is_refused(bench, plan):
    bench.put("x.csv")
    for statement in bench.path("x.csv.sig").iterdir():
        statement.unlink()

    refused(bench, plan, why="not_signed")


def test_a_signature_of_another_key_under_that_name_is_refused(bench, plan, tmp_path):
    bench.put("x.csv")
    (statement,) = bench.path("x.csv.sig").iterdir()
    envelope = json.loads(statement.read_text())
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    statement.write_text(json.dumps(envelope, separators=(",", ":")))

    refused(bench, plan, why="signature_invalid")


@pytest.mark.parametrize("by", ["reference", "asset"])
def test_another_object_than_the_pinned_one_is_refused(bench, plan, by):
    old = bench.put("x.csv", "old", run_id="r1")
    bench.put("x.csv", "new", run_id="r1")
    pin = Pin(digest=old["digest"], by=by, dag_id="churn", run_id="r1")

    refused(bench, plan, why="digest_differs", pin=pin)

    verify = next(e for e in bench.events() if e["act"] == "object.verify" and e.get("why"))
    assert verify["more"] == {"pinned_by": by, "expected": old["digest"]}


def test_an_old_object_put_back_is_refused_by_its_pin_alone(bench, plan):
    bench.put("x.csv", "old", run_id="r1")
    kept = bench.path("x.csv").read_bytes()
    new = bench.put("x.csv", "new", run_id="r1")
    bench.path("x.csv").write_bytes(kept)
    pin = Pin(digest=new["digest"], by="reference", dag_id="churn", run_id="r1")

    refused(bench, plan, why="digest_differs", pin=pin)
    assert bench.read("x.csv") == "old", "a bare address does not protect against replay"


def test_a_reference_to_what_another_run_made_is_refused(bench, plan):
    made = bench.put("x.csv", run_id="r1")
    pin = Pin(digest=made["digest"], by="reference", dag_id="churn", run_id="r2")

    refused(bench, plan, why="context_differs", pin=pin)


def test_another_objects_bytes_under_this_name_are_refused(bench, plan):
    bench.put("ada.csv")
    bench.put("alan.csv", "age\n17\n")
    for path in (bench.path("ada.csv"), *bench.path("ada.csv.sig").iterdir()):
        target = str(path).replace("ada.csv", "alan.csv")
        bench.data.joinpath(target).write_bytes(path.read_bytes())
    item = Input(name="table", uri=bench.uri("alan.csv"))

    _, said = bench.refusal(plan(inputs=[item]))

    assert {why for _, why in said} == {"context_differs"}


def test_a_context_that_the_author_demands_must_be_there(bench, plan):
    bench.put("x.csv", output={"context": {"patient": "7"}})

    assert bench.read("x.csv", context={"patient": "7"})
    refused(bench, plan, why="context_differs", context={"patient": "8"})


def test_a_broken_keyring_header_file_of_a_directory_is_refused(bench, plan):
    def make(bound):
        bound["out"].mkdir()
        (bound["out"] / "a").write_text("a")

    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), make)
    for path in bench.path("set/_asml").iterdir():
        flip(path)
    item = Input(name="table", uri=bench.uri("set"))

    bench.refusal(plan(inputs=[item]))


@pytest.mark.parametrize("change", ["added", "missing", "swapped"])
def test_a_directory_that_differs_from_its_statement_is_refused(bench, plan, change):
    def make(bound):
        bound["out"].mkdir()
        (bound["out"] / "a").write_text("a")
        (bound["out"] / "b").write_text("b")

    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), make)
    root = bench.path("set")
    if change == "added":
        (root / "c").write_bytes((root / "a").read_bytes())
    elif change == "missing":
        (root / "b").unlink()
    else:
        (root / "a").rename(root / "c")
        (root / "b").rename(root / "a")
        (root / "c").rename(root / "b")
    item = Input(name="table", uri=bench.uri("set"))

    _, said = bench.refusal(plan(inputs=[item]))

    assert {why for _, why in said} == {"digest_differs"}


def a_fifo(path):
    os.mkfifo(path)


def a_directory_with_a_fifo(path):
    path.mkdir()
    os.mkfifo(path / "pipe")


def a_directory_with_a_link_out(path):
    path.mkdir()
    (path / "b").symlink_to("/etc/hostname")


def an_empty_directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    "make",
    [a_fifo, a_directory_with_a_fifo, a_directory_with_a_link_out, an_empty_directory],
    ids=lambda make: make.__name__,
)
def test_what_is_no_artifact_is_refused_without_being_opened(bench, plan, make):
    make(bench.path("x.csv"))

    refused(bench, plan, why="not_sealed")


def test_a_stream_of_a_directory_is_refused(bench, plan):
    def make(bound):
        bound["out"].mkdir()
        (bound["out"] / "a").write_text("a")

    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), make)

    refused(bench, plan, "set", act="object.open", why="not_sealed", stream=True)


def test_a_stream_of_altered_bytes_hands_out_none(bench, plan):
    bench.put("x.csv")
    flip(bench.path("x.csv"))

    refused(bench, plan, act="object.open", why="digest_differs", stream=True)


def test_an_object_replaced_while_it_is_read_is_the_old_or_refused(bench, plan, with_parts):
    """Another version takes the name in the middle of opening: never a mixture of two."""
    bench.put("x.csv", "old" * 1000, run_id="r1")

    class Replacing:
        def __init__(self, store):
            self._store, self._opened = store, 0

        def __getattr__(self, name):
            return getattr(self._store, name)

        def open(self, uri):
            pinned = self._store.open(uri)
            if uri == bench.uri("x.csv"):
                self._opened += 1
                if self._opened == 2:
                    bench.change = lambda desk: desk
                    bench.put("x.csv", "new" * 1000, run_id="r1")
            return pinned

    replacing = Replacing(bench.local_objects)
    bench.change = lambda desk: with_parts(
        desk, store=lambda uri: replacing if uri.startswith(bench.uri("x")) else bench.store(uri)
    )
    outcome = ""
    try:
        outcome = bench.read("x.csv")
    except SecureMLError as error:
        outcome = error.why

    assert outcome in ("old" * 1000, "new" * 1000, "digest_differs")
    assert bench.left_in_scratch() == []


def test_an_object_changed_in_place_while_it_is_read_is_refused(bench, plan, with_parts):
    bench.put("x.csv", "old" * 100_000)

    class Changing:
        """A store whose object is overwritten in place after its first megabyte was read."""

        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def open(self, uri):
            pinned = self._store.open(uri)
            if uri == bench.uri("x.csv"):
                flip(bench.path("x.csv"))
            return pinned

    bench.change = lambda desk: with_parts(desk, store=lambda uri: Changing(bench.store(uri)))

    item = Input(name="table", uri=bench.uri("x.csv"))
    with pytest.raises(SecureMLError) as caught:
        bench.run(plan(inputs=[item]), lambda _: pytest.fail("the body ran"))

    assert caught.value.why == "digest_differs"
    assert bench.left_in_scratch() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("age,name\n17,alan\n", "expectation_failed"),
        ("age,name\n", "not_checkable"),
        ("", "not_checkable"),
        ("name\nada\n", "not_checkable"),
    ],
    ids=["fails", "no rows", "empty", "unknown column"],
)
def test_an_input_that_fails_its_expectations_is_refused(bench, plan, suite, text, why):
    bench.put("x.csv", text)

    refused(bench, plan, act="object.validate", why=why, suite=SuiteSource.from_file(suite()))


@pytest.mark.parametrize("content", [None, "{", '{"expectations": 7}'], ids=["none", "cut", "odd"])
def test_an_unreadable_suite_is_refused(bench, plan, tmp_path, content):
    bench.put("x.csv")
    path = tmp_path / "suite.json"
    if content is not None:
        path.write_text(content)

    message = refused(
        bench, plan, act="object.validate", why="misconfigured", suite=SuiteSource.from_file(path)
    )

    assert "suite.json" in message


def test_of_a_list_the_one_that_is_wrong_refuses_all(bench, plan):
    bench.put("a.csv")
    bench.put("b.csv")
    flip(bench.path("b.csv"))
    items = [Input(name="parts", uri=bench.uri(name)) for name in ("a.csv", "b.csv")]

    bench.refusal(plan(inputs=items))
