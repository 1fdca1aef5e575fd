"""Give Airflow the runs that the page tests' trail tells of; run inside its environment.

Reads from standard input, as JSON: a list of {dag, run, task, map, ti, start_ms, end_ms, state}.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import update


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def seed(dag_id: str, run_id: str, tries: list[dict[str, object]]) -> None:
    with create_session() as session:
        dag = SerializedDagModel.get_dag(dag_id, session=session)
        start = moment(min(int(t["start_ms"]) for t in tries))
        end = moment(max(int(t["end_ms"]) for t in tries))
        failed = any(t["state"] == "failed" for t in tries)
        run = dag.create_dagrun(
            run_id=run_id,
            logical_date=start,
            data_interval=(start, start),
            run_after=start,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state=DagRunState.FAILED if failed else DagRunState.SUCCESS,
            start_date=start,
            session=session,
        )
        run.end_date = end
        session.flush()
        for t in tries:
            session.execute(
                update(TaskInstance)
                .where(
                    TaskInstance.dag_id == dag_id,
                    TaskInstance.run_id == run_id,
                    TaskInstance.task_id == t["task"],
                    TaskInstance.map_index == t["map"],
                )
                .values(
                    id=UUID(str(t["ti"])),
                    state=t["state"],
                    try_number=1,
                    start_date=moment(int(t["start_ms"])),
                    end_date=moment(int(t["end_ms"])),
                )
            )


if __name__ == "__main__":
    found = json.load(sys.stdin)
    for (dag_id, run_id), tries in groupby(found, key=lambda t: (t["dag"], t["run"])):
        seed(dag_id, run_id, list(tries))
