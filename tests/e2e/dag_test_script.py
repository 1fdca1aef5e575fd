"""Runs a secured DAG with `dag.test()`, as an author does; prints the tasks' states as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

from airflow_secure_ml import secure

LAKE = os.environ["LAKE"]

with DAG("tested", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:

    @secure(writes={"raw": f"{LAKE}/raw.csv"})
    @task
    def make(raw: Path) -> int:
        raw.write_text("age,visits\n54,3\n")
        return 1

    @secure(reads=["raw"])
    @task
    def use(raw: Path) -> int:
        return len(raw.read_text())

    made = make()
    use(made["raw"])
    counts = BashOperator(task_id="counts", bash_command="wc -c < {{ secure.raw }}")
    secure(counts, reads={"raw": made["raw"]})
    plain = BashOperator(task_id="plain", bash_command="true")
    secure(plain, reads={"raw": f"{LAKE}/plain.csv"})


def main() -> None:
    """Make Airflow know the DAG, and run it in this process."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.utils import db
    from airflow.utils.session import create_session

    db.initdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    dag.relative_fileloc = "dag_test_script.py"
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    run = dag.test()
    with create_session() as session:
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances(session=session)}
    json.dump(states, sys.stderr)


main()
