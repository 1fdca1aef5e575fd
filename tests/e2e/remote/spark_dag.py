"""A Spark job between two secured tasks, as an author would write it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

from airflow_secure_ml import Reads, Writes, secure

LAKE = os.environ["SECURE_ML_DEMO_DATA"]
SUBMIT = Path(sys.executable).parent / "spark-submit"
JOB = Path(__file__).with_name("spark_job.py")


class SparkSubmitOperator(BashOperator):
    """As the Spark provider's: known by its name."""


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False)
def spark_elsewhere():
    @secure(writes={"visits": Writes(f"{LAKE}/visits.parquet", sealed=False)})
    @task
    def write_visits(visits):
        import pandas as pd

        pd.DataFrame({"site": [1, 1, 2], "visits": [3, 4, 5]}).to_parquet(visits)

    counted = secure(
        SparkSubmitOperator(
            task_id="count",
            bash_command=f"{SUBMIT} --master 'local[1]' --driver-memory 512m --conf "
            f"spark.ui.enabled=false --conf spark.driver.bindAddress=127.0.0.1 {JOB} "
            "{{ secure.visits }} {{ secure.counts }}",
            env={"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable},
            append_env=True,
        ),
        reads={"visits": Reads(f"{LAKE}/visits.parquet", sealed=False)},
        writes={"counts": Writes(f"{LAKE}/counts", sealed=False)},
        remote=True,
    )

    @secure(reads={"counts": Reads(f"{LAKE}/counts", sealed=False, signed_by="pipeline")})
    @task
    def read_counts(counts):
        import pandas as pd

        table = pd.concat(map(pd.read_parquet, sorted(counts.glob("*.parquet"))))
        table = table.rename(columns={"sum(visits)": "visits"})
        return {str(row.site): int(row.visits) for row in table.itertuples()}

    write_visits() >> counted >> read_counts()


spark_elsewhere()
