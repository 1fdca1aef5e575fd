"""Tasks that are killed at a step of their first try, and one whose supervisor is."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, BaseOperator, task

from airflow_secure_ml import secure

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
STEPS = (
    "intent", "scratch", "opened", "body", "staged", "recorded", "statement", "published",
    "shredded",
)  # fmt: skip


def canary(name):
    """Not as one word in this file: Airflow keeps DAG files in its database."""
    return "-".join(("CANARY", "of", "the", name))


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step, try_number):
    """Have this task die at a step; called while its addresses are rendered."""
    from airflow_secure_ml.adapters.guardian_process import Guardian
    from airflow_secure_ml.adapters.scratch import making
    from airflow_secure_ml.services import secured_publishing, secured_run
    from airflow_secure_ml.services.journal import Journal

    if try_number > 1:
        return ""
    settles = {"intent": 1, "recorded": 3}
    if step in settles:
        count_to(Journal, "settle", settles[step])
    elif step == "scratch":
        after(making, "make_scratch")
    elif step == "opened":
        after(secured_run, "open_input")
    elif step == "staged":
        after(secured_run, "stage_output")
    elif step == "statement":
        after(secured_publishing, "sign_artifact")
    elif step == "published":
        after(secured_publishing, "_commit")
    elif step == "shredded":
        after(Guardian, "finish")
    return ""


def after(owner, name):
    count_to(owner, name, 1)


def count_to(owner, name, last):
    real, calls = getattr(owner, name), []

    def counted(*arguments, **how):
        result = real(*arguments, **how)
        calls.append(name)
        if len(calls) == last:
            die()
        return result

    setattr(owner, name, counted)


with DAG(
    "killed",
    schedule=None,
    catchup=False,
    user_defined_macros={"arm": arm},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
    max_active_tasks=3,
):

    @secure(writes={"table": f"{DATA}/{{{{ run_id }}}}/table"})
    @task
    def make(table: Path) -> None:
        table.write_text(canary("killed"))

    @secure(
        reads={"table": f"{DATA}/{{{{ run_id }}}}/table"},
        writes={
            "out": "{{ arm(args.step, ti.try_number) }}"
            + f"{DATA}/{{{{ run_id }}}}/{{{{ args.step }}}}"
        },
    )
    @task
    def victim(step: str, table: Path, out: Path, ti=None) -> None:
        out.write_text(table.read_text())
        if step == "body" and ti.try_number == 1:
            die()

    make() >> victim.expand(step=list(STEPS))


def lose_supervisor():
    supervisor = os.getppid()
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while os.getppid() == supervisor and time.monotonic() < deadline:
        time.sleep(0.05)


class Orphan(BaseOperator):
    """Not Python's: that one logs what was returned, and nobody is left to read a log."""

    template_fields = ("out",)

    def __init__(self, *, out: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.out = out

    def execute(self, context):
        Path(self.out).write_text(canary("orphan"))
        lose_supervisor()


with DAG("orphaned", schedule=None, catchup=False):
    secure(
        Orphan(task_id="orphan", out="{{ secure.out }}"),
        writes={"out": f"{DATA}/{{{{ run_id }}}}/out"},
    )
