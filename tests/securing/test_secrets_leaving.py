"""A leased secret does not leave a body through what Airflow stores of its task."""

from __future__ import annotations

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, BaseOperator, Connection, task
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSecretsBackendAccessDenied,
    DagRunTriggerException,
    TaskDeferred,
)
from airflow.triggers.base import BaseTrigger

from airflow_secure_ml import secure
from airflow_secure_ml.errors import PolicyError

STATIC = "postgres://static:static-password@db.example:5432/warehouse"
PASSWORD = "leased+pass/word %1"
LEASED = {"warehouse": "database/creds/reader"}
SOLD = Asset("sold")


@pytest.fixture(autouse=True)
def static_connection(monkeypatch, secure_ml):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", STATIC)
    secure_ml.lease("database/creds/reader", username="leased-user", password=PASSWORD)


class Waiting(BaseTrigger):
    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments

    def serialize(self):
        return "tests.Waiting", self.arguments

    async def run(self):
        yield


class Defers(BaseOperator):
    def __init__(self, *, trigger=None, kwargs=None, **more):
        super().__init__(**more)
        self.trigger, self.kwargs = trigger or {}, kwargs or {}

    def execute(self, context):
        self.defer(trigger=Waiting(**self.trigger), method_name="execute", kwargs=dict(self.kwargs))


class Starts(TriggerDagRunOperator):
    def execute(self, context):
        self.conf = {"dsn": Connection.get("warehouse").get_uri()} if self.conf else {}
        super().execute(context)


def left(secure_ml, operator):
    """How the body left, as Airflow gets it."""
    try:
        return secure_ml.run(secure(operator, credentials=LEASED)).error
    except (TaskDeferred, DagRunTriggerException) as leaving:
        return leaving


@pytest.mark.parametrize(
    "carried",
    [{"kwargs": {"dsn": [f"u:{PASSWORD}@h"]}}, {"trigger": {"how": {"deep": PASSWORD}}}],
    ids=["for-itself", "for-its-trigger"],
)
def test_a_task_that_pauses_takes_no_secret_along(secure_ml, carried):
    with DAG("leaving", schedule=None):
        operator = Defers(task_id="body", **carried)

    error = left(secure_ml, operator)

    assert isinstance(error, PolicyError)
    assert isinstance(error, AirflowFailException)
    assert "left with a leased secret" in str(error)
    assert PASSWORD not in str(error)
    assert secure_ml.leased == []


def test_a_task_that_pauses_takes_along_what_is_no_secret(secure_ml):
    with DAG("leaving", schedule=None):
        operator = Defers(task_id="body", kwargs={"user": "leased-user"}, trigger={"for_s": 5})

    assert isinstance(left(secure_ml, operator), TaskDeferred)


@pytest.mark.parametrize(
    ("conf", "ends"), [({"dsn": 1}, PolicyError), ({}, DagRunTriggerException)]
)
def test_a_run_that_is_started_is_given_no_secret(secure_ml, conf, ends):
    with DAG("leaving", schedule=None):
        operator = Starts(task_id="body", trigger_dag_id="other", conf=conf)

    assert isinstance(left(secure_ml, operator), ends)


@pytest.mark.parametrize(("extra", "refused"), [({"dsn": PASSWORD}, True), ({"rows": 1}, False)])
def test_an_assets_event_holds_no_secret(secure_ml, extra, refused):
    with DAG("leaving", schedule=None) as dag:

        @secure(credentials=LEASED)
        @task(outlets=[SOLD])
        def body(outlet_events=None):
            outlet_events[SOLD].extra.update(extra)

        body()
    outcome = secure_ml.run(dag.get_task("body"))

    assert isinstance(outcome.error, PolicyError) is refused


def test_a_pushed_secret_is_refused_for_good(secure_ml):
    with DAG("leaving", schedule=None) as dag:

        @secure(credentials=LEASED)
        @task
        def body(ti=None):
            ti.xcom_push("dsn", PASSWORD)

        body()
    outcome = secure_ml.run(dag.get_task("body"))

    assert isinstance(outcome.error, PolicyError)
    assert isinstance(outcome.error, AirflowFailException)
    assert outcome.refused
    assert secure_ml.events[-1].why == "rule_denied"


@pytest.mark.parametrize("text", ["conn.warehouse.password", "conn.get('warehouse').login"])
def test_a_template_that_asks_for_the_login_is_refused_for_good(secure_ml, text):
    with DAG("leaving", schedule=None):
        operator = BashOperator(task_id="body", bash_command=f"echo {{{{ {text} }}}}")

    outcome = secure_ml.run(secure(operator, credentials=LEASED))

    assert isinstance(outcome.error, AirflowSecretsBackendAccessDenied)
    assert isinstance(outcome.error, AirflowFailException)


def test_a_body_that_needs_no_secret_out_is_left_alone(secure_ml):
    with DAG("leaving", schedule=None):
        operator = PythonOperator(task_id="body", python_callable=lambda: {"rows": [1, 2.5, None]})

    outcome = secure_ml.run(secure(operator, credentials=LEASED))

    assert outcome.returned == {"rows": [1, 2.5, None]}
