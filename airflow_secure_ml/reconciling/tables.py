"""Read task tries, DAG runs and the event log from Airflow's database; never write to it.

A session of its own for each question, ended by a rollback, and pages of bounded length: the
scheduler works on the same tables.

Source: FACTS, Airflow 3.3.2: `create_session` gives a caller's scoped session unless told not to.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.services.airflow_acts import PEOPLES, LogRow, RunRow
from airflow_secure_ml.services.coverage import FINAL, AirflowTry

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

PAGE = 1000
# SQLite takes so many parameters in a question, and some databases little more.
IDS_A_QUESTION = 500
RUNS_A_QUESTION = 100

_Key = tuple[str, str, str, int, int]


class AirflowTables:
    """Airflow's tables, as values.

    Raises:
        ConfigurationError: Airflow is not installed here.
    """

    def __init__(self) -> None:
        try:
            import airflow.models  # noqa: F401 - sets up its database session
            from airflow import settings
        except ImportError as error:
            raise ConfigurationError(
                "audit reconcile: needs Airflow, and it cannot be imported here"
            ) from error
        if settings.NonScopedSession is None:
            configure: Callable[[], None] = settings.configure_orm
            configure()

    @property
    def source(self) -> str:
        """Which Airflow, for people."""
        from airflow import __version__, settings

        dialect = getattr(getattr(settings.engine, "dialect", None), "name", "?")
        return f"tables of Airflow {__version__} in {dialect}"

    def tries(self, from_ms: int, until_ms: int) -> Iterator[Sequence[AirflowTry]]:
        """Pages of every try that started or ended in a period, those of the past included.

        A try that ended without a start is found by its end.
        """
        for table, ti in self._try_tables():
            start, end = table.start_date, table.end_date
            within = _between(start, from_ms, until_ms) | _between(end, from_ms, until_ms)
            never = start.is_(None) & end.is_(None) & table.state.in_(FINAL)
            ended = never & _between(table.updated_at, from_ms, until_ms)
            yield from self._try_pages(table, ti, within | ended)

    def tries_of(self, tis: Collection[str]) -> Mapping[str, AirflowTry]:
        """The tries of these ids that Airflow has; it has none but UUIDs as it writes them."""
        ids = [known for ti in sorted(tis) if (known := _uuid(ti)) is not None]
        found: dict[str, AirflowTry] = {}
        for start in range(0, len(ids), IDS_A_QUESTION):
            for table, ti in self._try_tables():
                asked = ti.in_(ids[start : start + IDS_A_QUESTION])
                for page in self._try_pages(table, ti, asked):
                    for each in page:
                        found.setdefault(each.ti, each)
        return found

    def log_rows(self, from_ms: int, until_ms: int) -> Iterator[Sequence[LogRow]]:
        """Pages of what people did, from Airflow's event log, oldest first."""
        from airflow.models.log import Log
        from sqlalchemy import or_

        # Of requests and commands alone: the log has several rows a task, too.
        told = or_(Log.event.startswith("cli\\_", escape="\\"), Log.extra.contains('"method"'))
        columns = (
            *(Log.id, Log.dttm, Log.event, Log.owner, Log.extra),
            *(Log.dag_id, Log.run_id, Log.task_id, Log.map_index),
        )
        query = _select(*columns).where(_between(Log.dttm, from_ms, until_ms), told)
        for page in _pages(query, Log.id):
            yield [
                LogRow(
                    id=row.id,
                    at_ms=_ms(row.dttm) or 0,
                    event=row.event,
                    owner=row.owner or "",
                    extra=row.extra or "",
                    dag=row.dag_id or "",
                    run=row.run_id or "",
                    task=row.task_id or "",
                    map_index=-1 if row.map_index is None else row.map_index,
                )
                for row in page
            ]

    def made_runs(self, from_ms: int, until_ms: int) -> Iterator[Sequence[RunRow]]:
        """Pages of the DAG runs that people had made."""
        from airflow.models.dagrun import DagRun

        how = [word for word in _triggers() if word.value in PEOPLES]
        # Older releases have no such column, or nothing in it.
        made = getattr(DagRun, "created_at", None)
        within = _between(DagRun.run_after, from_ms, until_ms)
        if made is not None:
            within = _between(made, from_ms, until_ms) | (made.is_(None) & within)
        columns = (DagRun.id, made if made is not None else DagRun.run_after, DagRun.run_after)
        query = _select(
            *(*columns, DagRun.dag_id, DagRun.run_id),
            *(DagRun.triggering_user_name, DagRun.triggered_by),
        ).where(DagRun.triggered_by.in_(how), within)
        for page in _pages(query, DagRun.id):
            yield [
                RunRow(
                    id=row.id,
                    at_ms=_ms(row[1] or row[2]) or 0,
                    dag=row.dag_id,
                    run=row.run_id,
                    by=row.triggering_user_name or "",
                    how=str(getattr(row.triggered_by, "value", row.triggered_by)),
                )
                for row in page
            ]

    def _try_tables(self) -> tuple[tuple[Any, Any], ...]:
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskinstancehistory import TaskInstanceHistory

        return (
            (TaskInstance, TaskInstance.id),
            (TaskInstanceHistory, TaskInstanceHistory.task_instance_id),
        )

    def _try_pages(
        self, table: Any, ti: Any, condition: ColumnElement[bool]
    ) -> Iterator[Sequence[AirflowTry]]:
        columns = (
            *(ti.label("ti"), table.dag_id, table.run_id, table.task_id, table.map_index),
            *(table.try_number, table.state, table.start_date, table.end_date, table.hostname),
        )
        for page in _pages(_select(*columns).where(condition), ti):
            found = [
                AirflowTry(
                    ti=str(row.ti),
                    dag=row.dag_id,
                    run=row.run_id,
                    task=row.task_id,
                    map_index=row.map_index,
                    number=row.try_number,
                    state=str(getattr(row.state, "value", row.state) or ""),
                    start_ms=_ms(row.start_date),
                    end_ms=_ms(row.end_date),
                    host=row.hostname or "",
                )
                for row in page
            ]
            noted = self._noted({(each.dag, each.run) for each in found})
            yield [replace(each, noted=tuple(noted.get(_key(each), ()))) for each in found]

    def _noted(self, runs: Collection[tuple[str, str]]) -> Mapping[_Key, list[str]]:
        """What the event log says of the tries of some DAG runs, oldest first."""
        from airflow.models.log import Log
        from sqlalchemy import and_, or_

        found: dict[_Key, list[str]] = {}
        asked = sorted(runs)
        for start in range(0, len(asked), RUNS_A_QUESTION):
            part = asked[start : start + RUNS_A_QUESTION]
            of_run = or_(*(and_(Log.dag_id == dag, Log.run_id == run) for dag, run in part))
            columns = (Log.id, Log.event, Log.dag_id, Log.run_id, Log.task_id)
            query = _select(*columns, Log.map_index, Log.try_number).where(
                of_run, Log.task_id.is_not(None), Log.try_number.is_not(None)
            )
            for page in _pages(query, Log.id):
                for row in page:
                    map_index = -1 if row.map_index is None else row.map_index
                    key = (row.dag_id, row.run_id, row.task_id, map_index, row.try_number)
                    found.setdefault(key, []).append(row.event)
        return found


def _key(attempt: AirflowTry) -> _Key:
    return (attempt.dag, attempt.run, attempt.task, attempt.map_index, attempt.number)


def _triggers() -> Sequence[Any]:
    from airflow.utils.types import DagRunTriggeredByType

    return list(DagRunTriggeredByType)


def _select(*columns: Any) -> Select[Any]:
    from sqlalchemy import select

    found: Select[Any] = select(*columns)
    return found


def _pages(query: Select[Any], key: Any) -> Iterator[Sequence[Any]]:
    """The rows of a question, by a column that is unique; each page is a question of its own."""
    last: Any = None
    while True:
        page = query if last is None else query.where(key > last)
        with _session() as session:
            rows = session.execute(page.order_by(key).limit(PAGE)).all()
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        last = rows[-1][0]


@contextmanager
def _session() -> Iterator[Session]:
    from airflow.utils.session import create_session
    from sqlalchemy.exc import DBAPIError

    try:
        with create_session(scoped=False) as session:
            yield session
            session.rollback()
    except DBAPIError as error:
        # Its text may hold the address of the database.
        raise ServiceUnavailableError(
            service="Airflow's database", action="read", reason=type(error.orig or error).__name__
        ) from error


def _between(column: Any, from_ms: int, until_ms: int) -> ColumnElement[bool]:
    found: ColumnElement[bool] = (column >= _time(from_ms)) & (column < _time(until_ms))
    return found


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(found: datetime | None) -> int | None:
    return None if found is None else round(found.timestamp() * 1000)


def _uuid(ti: str) -> uuid.UUID | None:
    try:
        found = uuid.UUID(ti)
    except ValueError:
        return None
    return found if str(found) == ti else None
