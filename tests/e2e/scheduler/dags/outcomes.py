"""Tasks that end in every way, secured and not, for what the listener records of them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_secure_ml import secure
from airflow_secure_ml.sensors import SignedArtifactSensor

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
RUN = f"{DATA}/{{{{ run_id }}}}"


class Deferring(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=15)), method_name="go_on")

    def go_on(self, context, event=None):
        return "resumed"


with DAG("outcomes", schedule=None, catchup=False):

    @task
    def good() -> None:
        pass

    @task
    def skipping() -> None:
        raise AirflowSkipException("not today")

    @task
    def failing() -> None:
        raise ValueError("on purpose")

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def second_try(ti=None) -> None:
        if ti.try_number == 1:
            raise ValueError("on purpose")

    @secure(writes={"out": f"{RUN}/good.txt"})
    @task
    def secured_good(out: Path) -> None:
        out.write_text("x")

    @secure(writes={"out": f"{RUN}/skipped.txt"})
    @task
    def secured_skipping(out: Path) -> None:
        raise AirflowSkipException("not today")

    @secure(writes={"out": f"{RUN}/failed.txt"})
    @task
    def secured_failing(out: Path) -> None:
        raise ValueError("on purpose")

    @secure(reads={"missing": f"{RUN}/nothing.csv"})
    @task(retries=3)
    def refused(missing: Path) -> None:
        pass

    @secure(writes={"late": f"{RUN}/late.txt"})
    @task
    def arrives_late(late: Path, run_id: str) -> None:
        late.write_text("x")

    @task
    def some_time_later() -> None:
        import time

        time.sleep(15)

    waited = SignedArtifactSensor(
        task_id="waited", artifact=f"{RUN}/late.txt", poke_interval=5, timeout=300
    )
    altered = SignedArtifactSensor(
        task_id="altered",
        artifact=f"{RUN}/altered.txt",
        retries=3,
        mode="reschedule",
        deferrable=False,
    )

    @secure(writes={"out": f"{RUN}/altered.txt"})
    @task
    def to_be_altered(out: Path) -> None:
        out.write_text("x" * 64)

    @task
    def attacker(run_id: str) -> None:
        with open(f"{DATA}/{run_id}/altered.txt", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")

    to_be_altered() >> attacker() >> altered
    good()
    skipping()
    failing()
    second_try()
    secured_good()
    secured_skipping()
    secured_failing()
    refused()
    Deferring(task_id="deferring")
    some_time_later() >> arrives_late()
