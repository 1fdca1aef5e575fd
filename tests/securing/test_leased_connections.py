"""A leased login as an Airflow connection: everywhere in the process, and only during the body."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, BaseHook, BaseOperator, Connection, task
from airflow.sdk.exceptions import (
    AirflowNotFoundException,
    AirflowSecretsBackendAccessDenied,
    TaskDeferred,
)
from airflow.sdk.log import redact
from airflow.triggers.base import BaseTrigger

from airflow_secure_ml import Lease, secure
from airflow_secure_ml.errors import ConfigurationError, PolicyError

STATIC = "postgres://static:static-password@db.example:5432/warehouse?sslmode=require"
PASSWORD = "leased+pass/word %1"
PATH = "database/creds/reader"


@pytest.fixture(autouse=True)
def static_connection(monkeypatch, secure_ml):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", STATIC)
    secure_ml.lease(PATH, username="leased-user", password=PASSWORD)


def login():
    found = Connection.get("warehouse")
    return found.login, found.password


LEASED = ("leased-user", PASSWORD)


def run(secure_ml, function, **options):
    with DAG("leasing", schedule=None) as dag:
        secure(
            PythonOperator(task_id="body", python_callable=function),
            credentials={"warehouse": PATH, **options},
        )
    return secure_ml.run(dag.get_task("body"))


def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(login()))
    thread.start()
    thread.join()
    return found[0]


def in_a_pool():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(login).result()


def by_async_get():
    async def ask():
        found = await Connection.async_get("warehouse")
        return found.login, found.password

    return asyncio.run(ask())


def by_to_thread():
    return asyncio.run(asyncio.to_thread(login))


def by_a_hook():
    found = BaseHook.get_connection("warehouse")
    return found.login, found.password


def in_a_fork():
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writer, pickle.dumps(login()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return pickle.loads(os.read(reader, 4096))


@pytest.mark.parametrize(
    "ask", [login, in_a_thread, in_a_pool, by_async_get, by_to_thread, by_a_hook, in_a_fork]
)
def test_the_whole_process_sees_the_leased_login(secure_ml, ask):
    seen = []

    outcome = run(secure_ml, lambda: seen.append(ask()))

    assert outcome.error is None
    assert seen == [LEASED]


def test_host_database_and_options_stay_the_connections_own(secure_ml):
    seen = []

    run(secure_ml, lambda: seen.append(Connection.get("warehouse")))

    (found,) = seen
    assert (found.conn_type, found.host, found.port, found.schema) == (
        "postgres",
        "db.example",
        5432,
        "warehouse",
    )
    assert found.extra_dejson == {"sslmode": "require"}
    assert "static" not in found.get_uri()


def test_another_connection_is_as_it_was(secure_ml, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://me:mine@h/d")
    seen = []

    run(secure_ml, lambda: seen.append(Connection.get("other").login))

    assert seen == ["me"]


def test_a_credential_can_go_to_a_connection_of_another_name(secure_ml):
    seen = []

    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"db": Lease(PATH, conn_id="warehouse")})
        @task
        def body(db):
            seen.append((db.username, login()))

        body()
    outcome = secure_ml.run(dag.get_task("body"))

    assert outcome.error is None
    assert seen == [("leased-user", LEASED)]


def test_a_template_never_renders_the_static_login(secure_ml):
    with DAG("leasing", schedule=None) as dag:
        secure(
            BashOperator(task_id="body", bash_command="echo {{ conn.warehouse.password }}"),
            credentials={"warehouse": PATH},
        )

    outcome = secure_ml.run(dag.get_task("body"))

    assert isinstance(outcome.error, AirflowSecretsBackendAccessDenied)
    assert not outcome.body_ran
    # In a process that goes on with other tasks, theirs is not denied.
    assert login() == ("static", "static-password")


def test_a_thread_that_outlives_the_body_gets_no_login(secure_ml):
    may_ask, asked, said = threading.Event(), threading.Event(), []

    def ask_later():
        may_ask.wait(20)
        try:
            said.append(login())
        except AirflowSecretsBackendAccessDenied as error:
            said.append(str(error))
        asked.set()

    class Watched:
        """A return value at whose look the body is over and its process is not."""

        def __init__(self):
            self.inner = {}

        @property
        def __dict__(self):
            may_ask.set()
            asked.wait(20)
            return self.inner

    def body():
        threading.Thread(target=ask_later).start()
        return Watched()

    run(secure_ml, body)

    assert len(said) == 1
    assert "only while the body of its task runs" in said[0]


def test_a_lease_without_a_login_leaves_the_connection_without_one(secure_ml):
    secure_ml.lease("kv/data/api", ttl_s=None, key="api-key-0001")
    seen = []

    def body():
        try:
            login()
        except AirflowSecretsBackendAccessDenied:
            seen.append("denied")

    with DAG("leasing", schedule=None) as dag:
        secure(
            PythonOperator(task_id="body", python_callable=body),
            credentials={"warehouse": "kv/data/api"},
        )
    outcome = secure_ml.run(dag.get_task("body"))

    assert outcome.error is None
    assert seen == ["denied"]


def test_a_connection_that_nobody_defined_has_only_the_parameter(secure_ml, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    seen = []

    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"warehouse": PATH})
        @task
        def body(warehouse):
            seen.append(warehouse.password)
            try:
                login()
            except (AirflowNotFoundException, AirflowSecretsBackendAccessDenied) as error:
                seen.append(type(error).__name__)

        body()
    secure_ml.run(dag.get_task("body"))

    assert seen == [PASSWORD, "AirflowSecretsBackendAccessDenied"]


def test_after_a_run_in_a_shared_process_the_connection_is_its_own_again(secure_ml):
    run(secure_ml, login)

    assert login() == ("static", "static-password")


def test_a_secret_is_masked_as_it_is_and_as_a_url_holds_it(secure_ml):
    seen = []

    def body():
        uri = Connection.get("warehouse").get_uri()
        seen.append(redact(f"{PASSWORD} {uri} leased%2Bpass%2Fword%20%251"))

    run(secure_ml, body)

    assert "pass" not in seen[0].replace("password", "")
    assert "***" in seen[0]


@pytest.mark.parametrize(
    "value",
    [
        lambda: PASSWORD,
        lambda: {"uri": Connection.get("warehouse").get_uri()},
        lambda: [Connection.get("warehouse")],
    ],
    ids=["plain", "in a URI", "in a Connection"],
)
def test_a_body_that_returns_a_leased_secret_is_refused(secure_ml, value):
    outcome = run(secure_ml, value)

    assert isinstance(outcome.error, PolicyError)
    assert "returned a leased secret" in str(outcome.error)
    assert PASSWORD not in str(outcome.error)
    assert secure_ml.leased == []


def test_a_body_that_pushes_a_leased_secret_is_refused(secure_ml):
    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"warehouse": PATH})
        @task
        def body(ti=None):
            ti.xcom_push(key="harmless", value=1)
            ti.xcom_push("dsn", [{"uri": f"postgres://u:{PASSWORD}@h"}])

        body()
    outcome = secure_ml.run(dag.get_task("body"))

    assert "pushed a leased secret" in str(outcome.error)
    assert outcome.xcom == {"harmless": 1}


class Waiting(BaseTrigger):
    def __init__(self, conn_ids):
        super().__init__()
        self.conn_ids = conn_ids

    def serialize(self):
        return ("tests.Waiting", {"conn_ids": self.conn_ids})

    async def run(self):
        yield


class Defers(BaseOperator):
    def __init__(self, conn_ids, **more):
        super().__init__(**more)
        self.conn_ids = conn_ids

    def execute(self, context):
        self.defer(trigger=Waiting(self.conn_ids), method_name="execute")


@pytest.mark.parametrize(
    ("conn_ids", "refused"), [([{"id": "warehouse"}], True), (["other"], False)]
)
def test_a_trigger_that_needs_the_leased_connection_is_refused(secure_ml, conn_ids, refused):
    with DAG("leasing", schedule=None) as dag:
        secure(Defers(task_id="body", conn_ids=conn_ids), credentials={"warehouse": PATH})

    outcome = _run_to_deferral(secure_ml, dag)

    assert isinstance(outcome, ConfigurationError if refused else TaskDeferred)
    if refused:
        assert "'warehouse'" in str(outcome)
        assert "deferrable=False" in str(outcome)
    assert secure_ml.leased == []


def _run_to_deferral(secure_ml, dag):
    try:
        return secure_ml.run(dag.get_task("body")).error
    except TaskDeferred as deferred:
        return deferred


def test_a_program_gets_one_file_a_field_and_they_are_gone_after_it(secure_ml, tmp_path):
    copy = tmp_path / "copy"
    with DAG("leasing", schedule=None) as dag:
        secure(
            BashOperator(
                task_id="body",
                bash_command=(
                    f"echo {{{{ secure.warehouse }}}} > {copy}; cd {{{{ secure.warehouse }}}}; "
                    f"stat -c '%n %a' * >> {copy}; cat password >> {copy}"
                ),
            ),
            credentials={"warehouse": PATH},
        )

    outcome = secure_ml.run(dag.get_task("body"))

    folder, *files = copy.read_text().splitlines()
    assert outcome.error is None
    assert files == ["password 600", "username 600", PASSWORD]
    assert not os.path.exists(folder)


def test_a_credential_gives_nothing_away_after_its_task(secure_ml):
    kept = []

    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"warehouse": PATH})
        @task
        def body(warehouse):
            kept.append(warehouse)
            assert dict(warehouse) == {"username": "leased-user", "password": PASSWORD}
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(warehouse)

        body()
    outcome = secure_ml.run(dag.get_task("body"))

    assert outcome.error is None
    assert PASSWORD not in repr(kept[0])
    with pytest.raises(PolicyError, match="has ended"):
        kept[0]["password"]


@pytest.mark.parametrize("field", ["../escape", ".hidden", "a/b"])
def test_a_fields_name_cannot_leave_its_folder(secure_ml, field):
    secure_ml.lease(PATH, **{field: "secret-text"})
    said = []

    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"warehouse": PATH})
        @task
        def body(warehouse):
            try:
                warehouse.file(field)
            except ConfigurationError as error:
                said.append(str(error))

        body()
    secure_ml.run(dag.get_task("body"))

    assert len(said) == 1
    assert "cannot be a file" in said[0]


def test_each_way_out_of_a_body_revokes(secure_ml):
    from airflow.sdk.exceptions import AirflowSkipException

    def leave_by(error):
        def body():
            assert secure_ml.leased
            raise error

        return body

    for error in (AirflowSkipException("x"), ValueError("x"), PolicyError("the body's own")):
        run(secure_ml, leave_by(error))

        assert secure_ml.leased == []
        assert secure_ml.events[-2].act == "scratch.shred"
        assert [e.act for e in secure_ml.events if e.act.startswith("lease.")][-2:] == [
            "lease.grant",
            "lease.revoke",
        ]
