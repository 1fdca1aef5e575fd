"""What is read from Airflow's tables: in pages, all of it, and never a write."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from airflow import settings
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import create_engine, event, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.reconciling import tables as module
from airflow_secure_ml.reconciling.tables import AirflowTables

BEGIN = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
BEGIN_MS = 1_795_316_400_000
HOUR_MS = 3_600_000
TABLES = (TaskInstance, TaskInstanceHistory, Log, DagRun)


class Site:
    """A database with Airflow's tables, and every statement that was sent to it."""

    def __init__(self, path):
        import_all_models()
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine, tables=[table.__table__ for table in TABLES])
        self.sent = []

    def watch(self):
        event.listen(
            self.engine,
            "before_cursor_execute",
            lambda _1, _2, statement, *_3: self.sent.append(statement),
        )

    def put(self, table, **values):
        with self.engine.begin() as connection:
            connection.execute(insert(table.__table__).values(**values))

    def put_try(self, number=0, *, table=TaskInstance, minutes=0, took=1, **values):
        start = BEGIN + timedelta(minutes=minutes)
        name = "id" if table is TaskInstance else "task_instance_id"
        ti = uuid.UUID(int=number + 1)
        given = {
            name: ti, "dag_id": "d", "run_id": "r", "task_id": f"t{number}", "map_index": -1,
            "try_number": 1, "state": "success", "start_date": start, "pool": "p",
            "end_date": start + timedelta(minutes=took), "hostname": "w1", "pool_slots": 1,
            "updated_at": start, "span_status": "x",
        }  # fmt: skip
        self.put(table, **given | values)
        return str(ti)


@pytest.fixture
def site(tmp_path, monkeypatch):
    found = Site(tmp_path / "airflow.db")
    monkeypatch.setattr(settings, "NonScopedSession", sessionmaker(found.engine))
    yield found
    found.engine.dispose()


def tries(from_ms=BEGIN_MS, until_ms=BEGIN_MS + HOUR_MS):
    return [each for page in AirflowTables().tries(from_ms, until_ms) for each in page]


def test_every_try_of_a_period_is_found_over_all_pages(site, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(5):
        site.put_try(number)
    for number in range(5, 8):
        site.put_try(number, table=TaskInstanceHistory)

    found = tries()

    assert sorted(each.task for each in found) == [f"t{number}" for number in range(8)]
    pages = [len(page) for page in AirflowTables().tries(BEGIN_MS, BEGIN_MS + HOUR_MS)]
    assert max(pages) == 2


@pytest.mark.parametrize(
    ("minutes", "took", "is_found"),
    [(0, 1, True), (59, 90, True), (60, 1, False), (-30, 60, True), (-30, 10, False)],
    ids=["starts with it", "starts in it", "starts after it", "ends in it", "ended before it"],
)
def test_a_try_belongs_to_the_period_it_started_or_ended_in(site, minutes, took, is_found):
    site.put_try(minutes=minutes, took=took)

    assert bool(tries()) == is_found


def test_a_try_that_never_had_a_time_is_found_by_its_change(site):
    site.put_try(0, start_date=None, end_date=None, state="skipped", hostname="")
    site.put_try(1, start_date=None, end_date=None, state=None, hostname="")

    found = tries()

    assert [(each.task, each.state, each.start_ms) for each in found] == [("t0", "skipped", None)]


def test_a_try_is_read_with_its_times_and_what_the_log_says_of_it(site):
    site.put_try(number=3, try_number=2, map_index=4, state="failed", task_id="t")
    for name, number in (("running", 2), ("heartbeat timeout", 2), ("running", 1)):
        site.put(
            Log, event=name, dag_id="d", run_id="r", task_id="t", map_index=4, try_number=number
        )

    (found,) = tries()

    assert (found.start_ms, found.end_ms) == (BEGIN_MS, BEGIN_MS + 60_000)
    assert (found.number, found.map_index, found.state) == (2, 4, "failed")
    assert found.noted == ("running", "heartbeat timeout")


def test_tries_are_found_by_their_ids_as_airflow_writes_them(site, monkeypatch):
    monkeypatch.setattr(module, "IDS_A_QUESTION", 2)
    ids = [site.put_try(number) for number in range(5)]
    ids.append(site.put_try(5, table=TaskInstanceHistory))

    odd = [ids[0].replace("-", ""), "{" + ids[1] + "}", "nothing", "", "x" * 5000]
    found = AirflowTables().tries_of([*ids, *odd, "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"])

    assert found.keys() == set(ids)


def test_what_people_did_is_read_and_what_airflow_did_is_not(site):
    rows = (
        ("post_pool", '{"method": "POST"}', 0),
        ("cli_dags_trigger", "{}", 1),
        ("running", '{"host_name": "w1"}', 2),
        ("cliff", "{}", 2),
        ("post_pool", '{"method": "POST"}', 90),
    )
    for name, extra, minutes in rows:
        at = BEGIN + timedelta(minutes=minutes)
        site.put(Log, event=name, extra=extra, dttm=at, owner="ann")

    found = [row for page in AirflowTables().log_rows(BEGIN_MS, BEGIN_MS + HOUR_MS) for row in page]

    assert [(row.event, row.at_ms) for row in found] == [
        ("post_pool", BEGIN_MS),
        ("cli_dags_trigger", BEGIN_MS + 60_000),
    ]


def test_runs_that_people_had_made_are_read(site):
    kinds = (DagRunTriggeredByType.UI, DagRunTriggeredByType.TIMETABLE, DagRunTriggeredByType.CLI)
    for number, kind in enumerate(kinds):
        site.put(
            DagRun, dag_id="d", run_id=f"r{number}", run_type="manual", triggered_by=kind,
            triggering_user_name="ann", run_after=BEGIN, created_at=BEGIN if number else None,
            span_status="x", log_template_id=None, state="success",
        )  # fmt: skip

    found = [
        row for page in AirflowTables().made_runs(BEGIN_MS, BEGIN_MS + HOUR_MS) for row in page
    ]

    assert [(row.run, row.by, row.how, row.at_ms) for row in found] == [
        ("r0", "ann", "ui", BEGIN_MS),
        ("r2", "ann", "cli", BEGIN_MS),
    ]


def test_nothing_is_ever_written(site):
    site.put_try()
    site.put(Log, event="cli_x", extra="{}", dttm=BEGIN)
    site.watch()

    read = AirflowTables()
    for pages in (
        read.tries(BEGIN_MS, BEGIN_MS + HOUR_MS),
        read.log_rows(BEGIN_MS, BEGIN_MS + HOUR_MS),
        read.made_runs(BEGIN_MS, BEGIN_MS + HOUR_MS),
    ):
        list(pages)
    read.tries_of([str(uuid.UUID(int=1))])

    assert len(site.sent) >= 7
    assert {statement.split()[0] for statement in site.sent} == {"SELECT"}


def test_a_database_that_fails_is_named_without_its_address(site, monkeypatch):
    def fail():
        raise OperationalError("SELECT", {}, Exception("postgres://ann:hunter2@db"))

    monkeypatch.setattr(settings, "NonScopedSession", fail)

    with pytest.raises(ServiceUnavailableError, match="Airflow's database") as caught:
        tries()

    assert "hunter2" not in str(caught.value)
