"""Tasks that read secrets: their own, somebody else's, and ones that the database has too."""

from __future__ import annotations

import os
import time
from pathlib import Path

from airflow.sdk import DAG, BaseHook, Variable, task
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")

# As some people do: here the DAG processor asks, and the process of each task.
try:
    BaseHook.get_connection("prod")
except AirflowSecretsBackendAccessDenied:
    PARSED = "denied"
else:
    PARSED = "given"


with DAG("secrets", schedule=None, catchup=False):

    @task
    def reads() -> None:
        connection = BaseHook.get_connection("warehouse")
        assert (connection.host, connection.login) == ("vault", "scott")
        assert Variable.get("greeting") == connection.password
        print("said:", Variable.get("printed"))

    @task
    async def reads_asynchronously() -> None:
        assert (await BaseHook.aget_connection("warehouse")).host == "vault"

    @task
    def allowed() -> None:
        assert BaseHook.get_connection("prod").host == "vault"
        assert PARSED == "given"

    @task
    def not_allowed() -> str:
        return BaseHook.get_connection("prod").host

    @task
    def not_allowed_by_vault() -> str:
        return BaseHook.get_connection("forbidden").host

    @task
    def around_it() -> None:
        # What a worker without this back end would ask the API server.
        from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend

        assert PARSED == "denied"
        assert ExecutionAPISecretsBackend().get_connection("prod") is None
        assert ExecutionAPISecretsBackend().get_connection("plain").host == "static"

    @task
    def elsewhere() -> None:
        assert BaseHook.get_connection("plain").host == "static"
        assert Variable.get("plain") == "static"

    reads()
    reads_asynchronously()
    allowed()
    not_allowed()
    not_allowed_by_vault()
    around_it()
    elsewhere()


with DAG("down", schedule=None, catchup=False):

    @task
    def waits() -> str:
        Path(DATA, "waiting").touch()
        deadline = time.monotonic() + 300
        while not Path(DATA, "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.3)
        return BaseHook.get_connection("warehouse").host

    waits()
