"""Every kind of task with a leased login: each says who PostgreSQL took it for."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseHook, BaseOperator, Connection, PokeReturnValue, task
from airflow.sdk.exceptions import AirflowSkipException
from seen import DATA, READER, keep, user_of

from airflow_secure_ml import Credential, Lease, secure

# Deferring for a short while can end in "state mismatch".
A_WHILE = timedelta(seconds=15)


class Deferring(BaseOperator):
    """Uses its login before it defers, and again when it goes on."""

    def execute(self, context):
        self.defer(
            trigger=TimeDeltaTrigger(A_WHILE),
            method_name="go_on",
            kwargs={"before": user_of()},
        )

    def go_on(self, context, event=None, before=""):
        return [before, user_of()]


def ask_after_the_body(context):
    """A callback: it runs in the task's process, when the login is gone."""
    try:
        found = BaseHook.get_connection("warehouse").login
    except Exception as error:
        found = type(error).__name__
    (Path(DATA) / f"{context['run_id']}-after-{context['ti'].task_id}").write_text(found)


with DAG("kinds", schedule=None, catchup=False) as kinds:

    @secure(credentials=READER)
    @task(on_success_callback=ask_after_the_body)
    def plain() -> str:
        return user_of()

    @secure(credentials=READER)
    @task
    def with_parameter(warehouse: Credential) -> list[str]:
        keep(warehouse.password)
        path = warehouse.file("password")
        assert path.read_text() == warehouse.password
        return [warehouse.username, user_of(), oct(path.stat().st_mode), repr(warehouse)]

    @secure(credentials=READER)
    @task
    async def asynchronous() -> list[str]:
        by_await = (await Connection.async_get("warehouse")).login
        return [by_await, user_of(), await asyncio.to_thread(user_of)]

    python = secure(PythonOperator(task_id="python", python_callable=user_of), credentials=READER)
    sql = secure(
        SQLExecuteQueryOperator(
            task_id="sql", conn_id="warehouse", sql="SELECT current_user, count(*) FROM measured"
        ),
        credentials=READER,
    )
    bash = secure(
        BashOperator(
            task_id="bash",
            bash_command="cd {{ secure.warehouse }} && cp password $SECURE_ML_TEST_SECRETS/bash"
            " && stat -c %a . * && cat username",
        ),
        credentials=READER,
    )

    @secure(credentials=READER)
    @task
    def mapped(number: int) -> list[str]:
        return [str(number), user_of()]

    @secure(credentials=READER)
    @task.branch
    def branch() -> str:
        return "taken" if user_of() else "not_taken"

    @secure(credentials=READER)
    @task.short_circuit
    def short_circuit() -> bool:
        return not user_of()

    @task
    def taken() -> None:
        pass

    @task
    def not_taken() -> None:
        pass

    @task
    def cut_off() -> None:
        pass

    @secure(credentials=READER)
    @task(on_skipped_callback=ask_after_the_body)
    def skips() -> None:
        user_of()
        raise AirflowSkipException("nothing to do today")

    @secure(credentials=READER)
    @task(execution_timeout=timedelta(seconds=4))
    def late() -> None:
        user_of()
        time.sleep(600)

    @secure(credentials=READER)
    @task(on_failure_callback=ask_after_the_body)
    def raises() -> None:
        user_of()
        raise ValueError("on purpose")

    deferring = secure(Deferring(task_id="deferring"), credentials=READER)

    @secure(credentials=READER)
    @task.sensor(mode="reschedule", poke_interval=15, timeout=300)
    def rescheduled(run_id: str) -> PokeReturnValue:
        seen = Path(DATA, f"{run_id}-pokes")
        with seen.open("a") as file:
            file.write(f"{user_of()}\n")
        users = seen.read_text().split()
        return PokeReturnValue(is_done=len(users) > 1, xcom_value=users)

    @secure(credentials=READER)
    @task
    def beside() -> dict[str, list[str]]:
        """The login in threads, pools and children, all of which ask Airflow's own hook."""
        found = []
        thread = threading.Thread(target=lambda: found.append(user_of()))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(4) as pool:
            found += pool.map(lambda _: user_of(), range(4))
        # One at a time: children of a task share its line to the supervisor.
        forking = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=forking) as pool:
            forked = list(pool.map(user_of, ["warehouse"] * 2))
        return {"mine": [user_of()], "threads": found, "forked": [*forked, in_bare_fork()]}

    @secure(
        credentials={
            "cert": Lease(
                "pki/issue/leases", data={"common_name": "{{ dag.dag_id }}.example.test"}
            ),
            "login": Lease("ssh/creds/leases", data={"ip": "127.0.0.1"}),
            "api": "kv/data/pipelines/canary",
        }
    )
    @task
    def engines(cert: Credential, login: Credential, api: Credential) -> dict[str, object]:
        import ssl

        for secret in (cert["private_key"], login["key"], api.password):
            keep(secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(cert.file("certificate"), cert.file("private_key"))
        return {
            "cert": sorted(cert),
            "mode": oct(cert.file("private_key").stat().st_mode),
            "login": login["username"],
            "api": [api.username, api.expires_at],
        }

    chosen = branch()
    chosen >> [taken(), not_taken()]
    short_circuit() >> cut_off()
    mapped.expand(number=[1, 2])
    rescheduled()
    beside()
    plain()
    with_parameter()
    asynchronous()
    engines()
    skips()
    late()
    raises()


def in_bare_fork() -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, user_of().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    return os.read(reading, 1000).decode()
