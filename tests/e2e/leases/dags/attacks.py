"""Tasks that give their leased login away, or reach for one they may not have."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, Asset, BaseHook, BaseOperator, task
from airflow.triggers.base import BaseTrigger
from seen import READER, keep, probe, spellings, tell_everybody

from airflow_secure_ml import Credential, secure

MARKER = "-".join(("mark", "4f2c"))
CANARY = {"api": "kv/data/pipelines/canary"}
PUBLISHED = Asset("leases-published")


class Querying(BaseTrigger):
    """Would ask the database from the triggerer, where the leased login is not."""

    def __init__(self, conn_id: str = "warehouse", **more) -> None:
        super().__init__()
        self.conn_id, self.more = conn_id, more

    def serialize(self):
        return "attacks.Querying", {"conn_id": self.conn_id, **self.more}

    async def run(self):
        raise AssertionError("nobody runs it")
        yield


class Waiting(BaseOperator):
    """Waits for that trigger."""

    def execute(self, context):
        self.defer(trigger=Querying(), method_name="go_on")

    def go_on(self, context, event=None):
        raise AssertionError("it never waits")


class Carrying(BaseOperator):
    """Hands its password to whoever resumes it, through Airflow's database."""

    template_fields = ("by",)

    def __init__(self, *, by: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.by = by

    def execute(self, context):
        password = BaseHook.get_connection("warehouse").password
        keep(password)
        wait = TimeDeltaTrigger(timedelta(seconds=15))
        if self.by == "kwargs":
            self.defer(trigger=wait, method_name="go_on", kwargs={"dsn": f"u:{password}@h"})
        self.defer(trigger=Querying("elsewhere", dsn=[password]), method_name="go_on")

    def go_on(self, context, event=None, dsn=""):
        raise AssertionError("it never waits")


class Passing(TriggerDagRunOperator):
    """Hands its password to a run of another DAG."""

    def execute(self, context):
        self.conf = {"dsn": BaseHook.get_connection("warehouse").get_uri()}
        super().execute(context)


class Rendering(BaseOperator):
    """Leaves its password in a field that Airflow stores."""

    template_fields = ("note",)

    def __init__(self, *, note: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.note = note

    def execute(self, context):
        keep(BaseHook.get_connection("warehouse").password)
        self.note = f"logged in with {BaseHook.get_connection('warehouse').password}"


with DAG(
    "attacks", schedule=None, catchup=False, default_args={"retries": 2}, max_active_tasks=4
) as attacks:

    @secure(credentials={**READER, **CANARY})
    @task(retries=0)
    def tells(warehouse: Credential, api: Credential) -> None:
        for secret in (warehouse.password, api.password):
            keep(secret)
            tell_everybody(secret, MARKER)
        probe()

    @secure(credentials={**READER, **CANARY})
    @task(retries=0)
    def raises(warehouse: Credential, api: Credential) -> None:
        keep(warehouse.password)
        texts = [*spellings(warehouse.password), *spellings(api.password)]
        try:
            raise KeyError(f"{MARKER}-cause", *texts)
        except KeyError as error:
            raise ValueError(
                f"{MARKER}-raised {texts} {PostgresHook('warehouse').get_uri()}"
            ) from error

    in_shell = secure(
        BashOperator(
            task_id="in_shell",
            bash_command="set -x; cat {{ secure.api }}/password; echo;"
            " cat {{ secure.api }}/password >&2;"
            # The static login stands in the environment, where the deployment put it.
            " env | grep -v AIRFLOW_CONN_WAREHOUSE; exit 3",
            retries=0,
        ),
        credentials=CANARY,
    )

    @secure(credentials=CANARY)
    @task
    def returns(api: Credential) -> dict[str, list[str]]:
        return {"deep": ["inside", f"postgres://u:{spellings(api.password)[2]}@h"]}

    @secure(credentials=CANARY)
    @task
    def pushes(api: Credential, ti=None) -> None:
        ti.xcom_push("note", [api.password])

    @secure(credentials=CANARY)
    @task(outlets=[PUBLISHED])
    def announces(api: Credential, outlet_events=None) -> None:
        outlet_events[PUBLISHED].extra["dsn"] = f"u:{api.password}@h"

    carries = [
        secure(Carrying(task_id=f"carries_by_{by}", by=by), credentials=READER)
        for by in ("kwargs", "trigger")
    ]
    passes = secure(
        Passing(task_id="passes", trigger_dag_id="attacks_child", trigger_run_id="{{ run_id }}"),
        credentials=READER,
    )
    renders = secure(Rendering(task_id="renders", note="nothing yet"), credentials=READER)
    waits = secure(Waiting(task_id="waits"), credentials=READER)
    in_template = [
        secure(
            BashOperator(task_id=f"in_template_{name}", bash_command=f"echo {{{{ {text} }}}}"),
            credentials=READER,
        )
        for name, text in {
            "password": "conn.warehouse.password",
            "uri": "conn.warehouse.get_uri()",
            "get": "conn.get('warehouse', 'none').password",
        }.items()
    ]

    @secure(credentials={"warehouse": "database/creds/owner"})
    @task
    def denied() -> None:
        raise AssertionError("a refused task never gets here")

    @secure(credentials={"warehouse": "kv/data/pipelines/{{ run_id }}"})
    @task
    def missing() -> None:
        raise AssertionError("a refused task never gets here")

    tells()
    raises()
    returns()
    pushes()
    announces()
    denied()
    missing()


with DAG("attacks_child", schedule=None):

    @task
    def nothing() -> None:
        assert os.environ

    nothing()
