"""What the command line brought in is a task's input, and what a task wrote comes out again."""

from __future__ import annotations

import pytest

from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.opening_below import OpeningBelow, OpeningKeys
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.sealing_below import SealingBelow, SealingKeys
from airflow_secure_ml.services.signing import Demand, statements_for
from airflow_secure_ml.services.tree_work import Tree

FILES = {"a.csv": "alice", "deep/b.csv": "bob" * 1000}


def tree(bench, name):
    return Tree(store=bench.local_objects, uri=bench.uri(name))


def seal(bench, **more):
    for name, text in FILES.items():
        path = bench.path("plain") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    keys = SealingKeys(
        system=bench.keys,
        names=("data",),
        signer=bench.keys.signer("pipeline"),
        verifiers=bench.keys.verifiers({"pipeline"}),
    )
    sealing = SealingBelow(tree(bench, "plain"), tree(bench, "set"), keys=keys, threads=2, **more)
    sealing.run()
    return sealing


@pytest.fixture
def read(bench, plan):
    found = {}

    def body(bound):
        for path in bound["table"].rglob("*"):
            if path.is_file():
                found[path.relative_to(bound["table"]).as_posix()] = path.read_text()

    def read(**more):
        bench.run(plan(inputs=[Input(name="table", uri=bench.uri("set"), **more)]), body)
        return found

    return read


def test_a_task_reads_what_was_sealed_and_demands_its_context(bench, read):
    seal(bench, context={"purpose": "training"}).sign(1)

    assert read(context={"purpose": "training"}) == FILES


def test_a_task_reads_nothing_before_all_of_it_was_signed(bench, plan):
    seal(bench, context={})

    error, said = bench.refusal(plan(inputs=[Input(name="table", uri=bench.uri("set"))]))

    assert error.why == "not_signed"
    assert ("object.verify", "not_signed") in said


def test_a_task_does_not_replace_what_the_command_line_sealed(bench, plan):
    seal(bench, context={}).sign(1)

    error, _ = bench.refusal(plan(outputs=[Output(name="out", uri=bench.uri("set"))]))

    assert isinstance(error, PolicyError)
    assert error.why == "address_taken"


def test_what_a_task_wrote_comes_out_again(bench, plan):
    def body(bound):
        for name, text in FILES.items():
            (bound["out"] / name).parent.mkdir(parents=True, exist_ok=True)
            (bound["out"] / name).write_text(text)

    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), body)
    source, target = tree(bench, "set"), tree(bench, "back")
    demand = Demand(verifiers=bench.keys.verifiers({"pipeline"}))
    said = statements_for(source.store, source.uri, demand).manifest
    unwrappers = bench.keys.unwrappers()
    readers = [*unwrappers, DataSetRoot(source.store, source.uri, keys=unwrappers)]

    OpeningBelow(
        source,
        target,
        keys=OpeningKeys(readers=readers, state_of=None, expect={}, original=source),
        said=said,
        threads=2,
    ).run()

    for name, text in FILES.items():
        assert (bench.path("back") / name).read_text() == text
