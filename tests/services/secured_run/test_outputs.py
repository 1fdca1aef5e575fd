"""Outputs that must not be published: each is refused by name, and nothing is left of it."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.services.run_plan import Input, Output

REFUSED = "refused"


def a_link(bound):
    bound["out"].symlink_to("/etc/hostname")


def a_folder_that_is_a_link(bound):
    elsewhere = bound["out"].parents[1] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / bound["out"].name).write_text("from outside")
    bound["out"].parent.rmdir()
    bound["out"].parent.symlink_to(elsewhere)


def a_link_in_a_directory(bound):
    bound["out"].mkdir()
    (bound["out"] / "a").write_text("a")
    (bound["out"] / "b").symlink_to("/etc")


def a_fifo(bound):
    os.mkfifo(bound["out"])


def a_fifo_in_a_directory(bound):
    bound["out"].mkdir()
    os.mkfifo(bound["out"] / "pipe")


def a_device(bound):
    try:
        os.mknod(bound["out"], 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may make no device files")


def something_beside(bound):
    bound["out"].write_text("x")
    bound["out"].with_name("notes.txt").write_text("y")


def nothing_but_a_name_nearby(bound):
    bound["out"].with_name("model.bin").write_text("x")


def nothing(bound):
    pass


def its_folder_gone(bound):
    shutil.rmtree(bound["out"].parent)


def an_empty_directory(bound):
    bound["out"].mkdir()


def directories_without_a_file(bound):
    (bound["out"] / "deep" / "deeper").mkdir(parents=True)


def a_name_of_ours(bound):
    (bound["out"] / "_asml").mkdir(parents=True)
    (bound["out"] / "_asml" / "x").write_text("x")


def two_names_of_one_case(bound):
    bound["out"].mkdir()
    (bound["out"] / "a").write_text("1")
    (bound["out"] / "A").write_text("2")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (nothing, "output_missing"),
        (its_folder_gone, "output_missing"),
        (nothing_but_a_name_nearby, "output_missing"),
        (an_empty_directory, "output_missing"),
        (directories_without_a_file, "output_missing"),
        (something_beside, "output_unexpected"),
        (a_name_of_ours, "output_unexpected"),
        (two_names_of_one_case, "output_unexpected"),
        (a_link, "output_outside"),
        (a_folder_that_is_a_link, "output_outside"),
        (a_link_in_a_directory, "output_outside"),
        (a_fifo, "output_outside"),
        (a_fifo_in_a_directory, "output_outside"),
        (a_device, "output_outside"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_no_output_is_refused(bench, plan, body, why):
    made = plan(outputs=[Output(name="out", uri=bench.uri("x.bin"))])

    error, said = bench.refusal(made, body)

    assert said == [("object.seal", why), ("task.secure", why)]
    assert str(error).startswith("out: ")


def test_a_failed_expectation_publishes_nothing(bench, plan, suite):
    output = Output(name="out", uri=bench.uri("x.csv"), suite=SuiteSource.from_file(suite()))

    error, said = bench.refusal(
        plan(outputs=[output]), lambda bound: bound["out"].write_text("age\n17\n")
    )

    assert error.failed == ("expect_column_values_to_be_between(age)",)
    assert said == [
        ("object.validate", "expectation_failed"),
        ("task.secure", "expectation_failed"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not_checkable"),
        ("age,name\n", "not_checkable"),
        ("AGE\n41\n", "not_checkable"),
        ('age\n"41\n', "not_checkable"),
    ],
    ids=["empty file", "no rows", "unknown column", "broken"],
)
def test_a_table_that_cannot_be_checked_is_not_published(bench, plan, suite, text, why):
    output = Output(name="out", uri=bench.uri("x.csv"), suite=SuiteSource.from_file(suite()))

    _, said = bench.refusal(plan(outputs=[output]), lambda bound: bound["out"].write_text(text))

    assert said == [("object.validate", why), ("task.secure", why)]


def test_expectations_of_a_directory_are_refused(bench, plan, suite):
    output = Output(name="out", uri=bench.uri("x.csv"), suite=SuiteSource.from_file(suite()))

    def body(bound):
        bound["out"].mkdir()
        (bound["out"] / "a.csv").write_text("age\n41\n")

    _, said = bench.refusal(plan(outputs=[output]), body)

    assert said == [("object.validate", "not_checkable"), ("task.secure", "not_checkable")]


def test_an_output_changed_after_its_verdict_is_not_published(bench, plan, suite, with_parts):
    made = []

    class Late:
        def __init__(self, checker):
            self.checker, self.suite_digest = checker, checker.suite_digest

        def check(self, data, *arguments, **how):
            found = self.checker.check(data, *arguments, **how)
            made[0].write_text("age\n17\n")
            return found

    bench.change = lambda desk: with_parts(desk, checker=lambda: Late(desk.checker()))
    output = Output(name="out", uri=bench.uri("x.csv"), suite=SuiteSource.from_file(suite()))

    def body(bound):
        made.append(bound["out"])
        bound["out"].write_text("age\n41\n")

    _, said = bench.refusal(plan(outputs=[output]), body)

    assert said == [("object.seal", "digest_differs"), ("task.secure", "digest_differs")]


def test_quarantine_obeys_the_rules_before_the_body_runs(bench, plan, suite):
    bench.put("people.csv", "age\n41\n17\n")
    bench.allow(
        f'[[data]]\nprefix = "{bench.path("bad.csv")}"\nkey = "other"\n'
        f'[[data]]\nprefix = "{bench.data}"\n'
    )
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("bad.csv"),
    )

    _, said = bench.refusal(plan(inputs=[item]))

    assert said == [("object.seal", "key_missing"), ("task.secure", "key_missing")]


def test_quarantine_does_not_replace_what_another_task_wrote(bench, plan, suite):
    bench.put("people.csv", "age\n41\n17\n")
    bench.put("bad.csv", task_id="other")
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("bad.csv"),
    )

    _, said = bench.refusal(plan(inputs=[item]))

    assert said == [("object.publish", "address_taken"), ("task.secure", "address_taken")]


def test_a_body_cannot_change_the_rows_that_were_set_aside(bench, plan, suite, shm):
    bench.put("people.csv", "age\n41\n17\n")
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("bad.csv"),
    )
    found = []

    def body(bound):
        found.extend([*shm.glob("*/table/bad"), *shm.glob("*/table/bad/*")])

    bench.run(plan(inputs=[item]), body)

    # The folder is still there, the rows are not.
    assert [path.name for path in found] == ["bad"]
    assert bench.read("bad.csv") == "age\n17\n"


def test_a_thread_that_still_writes_does_not_keep_scratch_alive(bench, plan, shm):
    stop = threading.Event()

    def body(bound):
        bound["out"].write_text("x")

        def write():
            while not stop.is_set():
                for root in shm.glob("asml-*"):
                    try:
                        (root / "late").write_text("y")
                    except OSError:
                        continue

        thread.append(threading.Thread(target=write))
        thread[0].start()

    thread = []
    try:
        bench.run(plan(outputs=[Output(name="out", uri=bench.uri("x"))]), body)
    finally:
        stop.set()
        thread[0].join()

    assert bench.left_in_scratch() == []
