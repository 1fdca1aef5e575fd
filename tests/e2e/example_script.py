"""Runs a DAG of an example with `dag.test()`; prints states and return values as JSON.

python example_script.py FILE DAG_ID [times]
"""

from __future__ import annotations

import json
import os
import sys

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.xcom import XComModel
from airflow.utils import db
from airflow.utils.session import create_session


def main() -> None:
    """Make Airflow know the DAG, and run it in this process."""
    file, dag_id, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    db.initdb()
    DagBundlesManager().sync_bundles_to_db()
    found = DagBag(dag_folder=file)
    assert not found.import_errors, found.import_errors
    dag = found.dags[dag_id]
    dag.relative_fileloc = os.path.basename(file)
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    told = []
    for _ in range(times):
        run = dag.test()
        with create_session() as session:
            states = [
                (ti.task_id, ti.map_index, str(ti.state))
                for ti in run.get_task_instances(session=session)
            ]
            values = {
                one.task_id: XComModel.deserialize_value(one)
                for one in session.query(XComModel)
                .filter(XComModel.run_id == run.run_id, XComModel.key == "return_value")
                .all()
                if one.map_index == -1
            }
        told.append({"states": sorted(states), "values": values})
    sys.stderr.write(f"\n{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
