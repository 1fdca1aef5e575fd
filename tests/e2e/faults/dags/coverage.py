"""Tasks whose tries end in every way that a check of coverage tells apart."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task

from airflow_secure_ml import secure
from airflow_secure_ml.policies import is_dag_processor

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
RUN = f"{DATA}/{{{{ run_id }}}}"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def secured_for_the_eye(body):
    """What an attacker's file does: it declares what the task's process then leaves out."""
    plain = task(body)
    return secure(plain, writes={"out": f"{RUN}/eye.txt"}) if is_dag_processor() else plain


with DAG("covered", schedule=None, catchup=False, max_active_tasks=4):

    @task
    def good() -> None:
        pass

    @secure(writes={"out": f"{RUN}/good.txt"})
    @task
    def secured(out: Path) -> None:
        out.write_text("x")

    @secure(writes={"out": f"{RUN}/killed.txt"})
    @task
    def killed(out: Path) -> None:
        die()

    @task
    def exits() -> None:
        os._exit(7)

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def killed_once(ti=None) -> None:
        if ti.try_number == 1:
            die()

    @task
    def mapped(number: int) -> None:
        if number == 1:
            die()

    @task
    def below() -> None:
        pass

    @task.short_circuit
    def stops() -> bool:
        return False

    @task
    def left_out() -> None:
        pass

    @secured_for_the_eye
    def bypassed(out: Path = Path()) -> None:
        pass

    good()
    secured()
    killed_once()
    exits() >> below()
    killed()
    mapped.expand(number=[0, 1, 2])
    stops() >> left_out()
    bypassed()
    EmptyOperator(task_id="nothing")


with DAG("quiet", schedule=None, catchup=False):

    @task
    def quiet() -> None:
        pass

    quiet()


with DAG("zombie", schedule=None, catchup=False):

    @task
    def zombie() -> None:
        supervisor = os.getppid()
        os.kill(supervisor, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while os.getppid() == supervisor and time.monotonic() < deadline:
            time.sleep(0.05)
        die()

    zombie()
