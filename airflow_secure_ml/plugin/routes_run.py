"""The run's tab: what the trail says of a DAG run, beside what Airflow says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Response
from sqlalchemy import select

from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.plugin.access import ScopeDep
from airflow_secure_ml.plugin.checked import checked_run
from airflow_secure_ml.plugin.filter_words import filter_of
from airflow_secure_ml.plugin.lanes import Try, lay_out
from airflow_secure_ml.plugin.lineage_view import GraphView, draw
from airflow_secure_ml.plugin.lookup import position
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import TrailDep
from airflow_secure_ml.plugin.wording import visible
from airflow_secure_ml.services.lineage import Limits, trace
from airflow_secure_ml.services.works import READS, WRITES, version_of

# A page of a run with more events than this says that it shows the newest only.
MAX_EVENTS = 5000
# Parsed, events take many times their bytes: a task could fill the API server's memory.
MAX_BYTES = 16 << 20
PAGE_ROWS = 250
# The picture of what went in and came out: it begins with so many, and goes one run on.
MAX_DRAWN = 12
_NEAR = Limits(steps=1, nodes=36, fan=6)
# Of one hour or less, so that a person's check of an old period hides no newer one.
_NEWEST_CHECKS = 10

router = APIRouter()
# Not `user.`: who looks at a run again and again would push its own events out.
_OF_A_RUN = (
    *("task.", "rule.", "object.", "dataset.", "scratch.", "lease.", "secret.", "xcom.", "key."),
    *("run.", "dag.", "emitter.", "coverage.", "alert."),
)
_reads_dag_log = Depends(requires_access_dag("GET", DagAccessEntity.AUDIT_LOG))


@router.get("/run", dependencies=[_reads_dag_log])
def run_tab(dag_id: str, run_id: str, scope: ScopeDep, trail: TrailDep) -> Response:
    """One run: lanes, refusals, what went in and out, coverage."""
    query = scope.limit(EventQuery(dag=dag_id, run=run_id, acts=_OF_A_RUN))
    leaves, is_cut = newest_of(trail.store, query)
    tries = _tries(dag_id, run_id)
    view = lay_out(leaves, tries)
    checks = trail.store.page(EventQuery(acts=("coverage.check",)), limit=_NEWEST_CHECKS)
    q = filter_of(("dag", dag_id), ("run", run_id))
    return page(
        "run",
        "Run",
        whole=scope.whole,
        view=view,
        graph=_graph(trail.store, leaves, scope.dags),
        checked=checked_run(
            [leaf.event for leaf in checks], [leaf.event for leaf in leaves], tries
        ),
        dag_id=visible(dag_id),
        run_id=visible(run_id),
        event_count=f"{len(leaves):,}",
        is_cut=is_cut,
        events_href=href("events", q=q),
        event_href=lambda name: href("events", q=q, event=name),
        check_href=lambda name: href("events", q="act:coverage.check", event=name),
        object_href=lambda uri: href("events", q=filter_of(("object", uri))),
    )


def _graph(
    store: AuditStore, leaves: Sequence[Leaf], dags: tuple[str, ...] | None
) -> GraphView | None:
    """What the run read and wrote, with the works before and after; None: nothing."""
    done = (
        version_of(leaf.event)
        for leaf in leaves
        if leaf.event.get("act") in (*READS, *WRITES) and leaf.event.get("result") == "ok"
    )
    starts = list(dict.fromkeys(version for version in done if version is not None))[:MAX_DRAWN]
    return draw(trace(store, starts, dags=dags, limits=_NEAR)) if starts else None


def newest_of(store: AuditStore, query: EventQuery) -> tuple[list[Leaf], bool]:
    """The newest events of a query, oldest first, and whether there may be more of them."""
    found: list[Leaf] = []
    bound: tuple[int, int] | None = None
    held_bytes = 0
    while len(found) < MAX_EVENTS and held_bytes < MAX_BYTES:
        page_of = store.page(query, older_than=bound, limit=PAGE_ROWS)
        found.extend(page_of)
        if len(page_of) < PAGE_ROWS:
            return found[::-1], False
        held_bytes += sum(len(leaf.data) for leaf in page_of)
        bound = position(page_of[-1])
    return found[::-1], True


def _tries(dag_id: str, run_id: str) -> Sequence[Try]:
    """Airflow's tries of a run, from its own tables."""
    # Not the caller's session: that one belongs to Airflow's own request.
    with create_session(scoped=False) as session:
        now = session.execute(
            select(
                TaskInstance.id,
                TaskInstance.task_id,
                TaskInstance.map_index,
                TaskInstance.try_number,
                TaskInstance.state,
                TaskInstance.start_date,
                TaskInstance.end_date,
            ).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        ).all()
        earlier = session.execute(
            select(
                TaskInstanceHistory.task_instance_id,
                TaskInstanceHistory.task_id,
                TaskInstanceHistory.map_index,
                TaskInstanceHistory.try_number,
                TaskInstanceHistory.state,
                TaskInstanceHistory.start_date,
                TaskInstanceHistory.end_date,
            ).where(TaskInstanceHistory.dag_id == dag_id, TaskInstanceHistory.run_id == run_id)
        ).all()
    return [_try(row) for row in (*earlier, *now)]


def _try(row: Iterable[object]) -> Try:
    ti, task, map_index, number, state, start, end = row
    return Try(
        ti=str(ti),
        task=str(task),
        map_index=int(str(map_index)),
        number=int(str(number)),
        state=str(state or "no state"),
        start_ms=_ms(start),
        end_ms=_ms(end),
    )


def _ms(moment: object) -> int | None:
    if not isinstance(moment, datetime):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
