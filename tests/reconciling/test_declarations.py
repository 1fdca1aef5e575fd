"""A task that its DAG file said is secured, and that nothing secured, is found over a real log."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from tests.reconciling.conftest import in_child
from tests.reconciling.test_rounds import FULL, TI, MemoryTables, attempt, check, now_ms, told


def declare(place, seconds_ago, names, version):
    """The DAG processor says which tasks of the DAG are secured; the try began a minute ago."""

    def record():
        at_ms = now_ms() - 1000 * seconds_ago
        spool = Spool(place.audit, "dag-processor", now_ms=lambda: at_ms)
        more = {"tasks": 2, "secured": names, "version": version}
        about = RunRef(dag="d", run="")
        spool.record(Fact(act="dag.declare", phase="seen", result="ok", run=about, more=more))
        spool.settle()
        spool.close()

    assert in_child(record) == 0


@pytest.mark.parametrize(
    ("said", "is_found"),
    [
        ([(100, ["t"], "1")], True),
        ([(101, ["other"], "1"), (100, ["t"], "1")], True),
        ([(200, [], "1"), (100, ["t"], "2")], True),
        ([(200, ["t"], "1"), (100, [], "2")], False),
        ([(30, ["t"], "1")], False),
        ([(100, ["other"], "1")], False),
        ([], False),
    ],
    ids=["said", "in two events", "since", "taken back", "later", "another", "never"],
)
def test_a_task_is_held_to_what_its_dag_file_said_when_it_began(place, said, is_found):
    for seconds_ago, names, version in said:
        declare(place, seconds_ago, names, version)
    place.tell(TI, *FULL)
    place.sequence()

    check(place, MemoryTables(attempt()))

    (found,) = told(place, "coverage.check")
    assert (found["unsecured"], found["recorded"]) == (int(is_found), int(not is_found))
    alerts = ["coverage.unsecured"] if is_found else []
    assert [alert["about"] for alert in told(place, "alert.raise")] == alerts
