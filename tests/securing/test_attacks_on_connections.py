"""The leased login of a connection: who would see it, change it, or get the static one instead."""

from __future__ import annotations

import pickle
import traceback
import types

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Connection, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSecretsBackendAccessDenied
from airflow.sdk.execution_time import supervisor, task_runner

from airflow_secure_ml import Lease, secure
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing import leased_connections

PASSWORD = "leased+pass/word %1"
PATH = "database/creds/reader"
LEASED, STATIC = ("leased-user", PASSWORD), ("static", "static-password")


@pytest.fixture(autouse=True)
def static_connection(monkeypatch, secure_ml):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://static:static-password@h:5432/w")
    secure_ml.lease(PATH, username="leased-user", password=PASSWORD)


def login(conn_id="warehouse"):
    found = Connection.get(conn_id)
    return found.login, found.password


def run(secure_ml, function, credentials=None, **options):
    with DAG("leasing", schedule=None) as dag:
        secure(
            PythonOperator(task_id="body", python_callable=function, **options),
            credentials=credentials or {"warehouse": PATH},
        )
    return secure_ml.run(dag.get_task("body"))


@pytest.mark.parametrize("conn_id", ["WAREHOUSE", "Warehouse"])
def test_another_spelling_does_not_lead_to_the_static_login(secure_ml, conn_id):
    assert login(conn_id) == STATIC
    said = []

    def body():
        try:
            said.append(login(conn_id))
        except AirflowSecretsBackendAccessDenied:
            said.append("denied")

    run(secure_ml, body)

    assert said == ["denied"]


def test_what_a_hook_changes_in_its_connection_is_nobody_elses(secure_ml):
    seen = []

    def body():
        Connection.get("warehouse").host = "elsewhere"
        seen.append(Connection.get("warehouse").host)

    run(secure_ml, body)

    assert seen == ["h"]


def test_a_leased_connection_shows_no_login_where_it_is_printed(secure_ml):
    seen = []

    run(secure_ml, lambda: seen.append(Connection.get("warehouse")))

    (found,) = seen
    assert isinstance(found, Connection)
    assert PASSWORD not in repr(found) + str([found]) + f"{found}"
    assert pickle.loads(pickle.dumps(found)).password == PASSWORD


def test_no_frame_of_ours_shows_a_secret_where_a_body_fails(secure_ml):
    """As a log with local variables or a reporter of errors would."""

    def body(warehouse):
        raise ValueError("broken")

    error = run(secure_ml, body).error

    stack = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = "".join(stack.format())
    assert "_run_body" in shown
    assert "broken" in shown
    assert PASSWORD not in shown
    assert "static-password" not in shown


@pytest.mark.parametrize("overwrites", [False, True])
def test_rendered_fields_never_hold_a_credential_or_its_place(secure_ml, overwrites):
    rendered = []

    class Operator(PythonOperator):
        overwrite_rtif_after_execution = overwrites

    with DAG("leasing", schedule=None) as dag:

        def body(warehouse, place):
            rendered.append(task_runner._serialize_rendered_fields(operator[0]))
            assert warehouse.password == PASSWORD

        secure(
            Operator(
                task_id="body", python_callable=body, op_kwargs={"place": "{{ secure.warehouse }}"}
            ),
            credentials={"warehouse": PATH},
        )
    operator = []
    made = dag.get_task("body")
    prepare = made.prepare_for_execution

    def prepared():
        operator.append(prepare())
        return operator[-1]

    object.__setattr__(made, "prepare_for_execution", prepared)
    outcome = secure_ml.run(made)
    rendered.append(task_runner._serialize_rendered_fields(operator[0]))

    assert outcome.error is None
    assert PASSWORD not in str(rendered)
    assert rendered[1]["op_kwargs"] == {"place": "\u27e6secure.warehouse\u27e7"}
    assert rendered[1]["op_args"] == []


def test_arguments_that_are_no_template_fields_are_put_back_too(secure_ml):
    class Operator(PythonOperator):
        template_fields = ()

    with DAG("leasing", schedule=None) as dag:
        secure(
            Operator(task_id="body", python_callable=lambda warehouse: None),
            credentials={"warehouse": PATH},
        )
    operator = dag.get_task("body")
    seen = []
    prepare = operator.prepare_for_execution
    object.__setattr__(
        operator, "prepare_for_execution", lambda: seen.append(prepare()) or seen[-1]
    )

    assert secure_ml.run(operator).error is None
    assert "warehouse" not in seen[0].op_kwargs


def test_in_a_process_of_one_task_nothing_after_the_body_gets_a_login(secure_ml, monkeypatch):
    # What Airflow puts there in a worker; nothing is sent through it here.
    comms = types.SimpleNamespace(send=lambda *given, **how: None)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)

    seen = []
    run(secure_ml, lambda: seen.append(login()))
    assert seen == [LEASED]
    try:
        with pytest.raises(AirflowSecretsBackendAccessDenied, match="only while the body"):
            login()
    finally:
        monkeypatch.undo()
        leased_connections.allow_others(["warehouse"])


def test_two_tasks_after_each_other_have_their_own_login_each(secure_ml):
    secure_ml.lease("database/creds/writer", username="writer", password="writer-password")

    seen = []
    run(secure_ml, lambda: seen.append(login()))
    run(secure_ml, lambda: seen.append(login()), {"warehouse": "database/creds/writer"})

    assert seen == [LEASED, ("writer", "writer-password")]
    assert login() == STATIC


def test_a_task_inside_a_task_takes_nothing_away(secure_ml):
    secure_ml.lease("database/creds/writer", username="writer", password="writer-password")
    seen = []

    def outer():
        inner = run(secure_ml, login, {"other": "database/creds/writer"})
        seen.append((type(inner.error).__name__, login()))

    run(secure_ml, outer)

    # Nobody defined a connection of the inner one's name.
    assert len(seen) == 1
    assert seen[0][1] == LEASED


def test_the_table_stands_first_once_however_often_tasks_run(secure_ml):
    for _ in range(3):
        run(secure_ml, login)

    kinds = [type(one).__name__ for one in supervisor.ensure_secrets_backend_loaded()]
    assert kinds.count("_Table") == 1
    assert kinds[0] == "_Table"


@pytest.mark.parametrize("lease", [PATH, Lease(PATH, vault_conn_id="warehouse")])
def test_a_credential_does_not_take_the_login_of_its_own_vault(secure_ml, lease):
    name = "vault_default" if lease == PATH else "warehouse"

    outcome = run(secure_ml, lambda: None, {name: lease})

    assert isinstance(outcome.error, ConfigurationError)
    assert isinstance(outcome.error, AirflowFailException)
    assert f"connection '{name}' leads to Vault" in str(outcome.error)
    assert secure_ml.leased == []


@pytest.mark.parametrize(
    ("path", "given", "leased"),
    [
        ("kv/data/{{ args.team }}/api", "sales", "kv/data/sales/api"),
        ("kv/data/{{ args.team }}/api", "sales/../admin", None),
        ("kv/data/{{ args.team }}/api", "sales/admin", None),
        ("kv/data/{{ args.team }}/api", "..", None),
        ("kv/data/{{ args.team }}/api", "", None),
        ("kv/data/{{ args.team }}/api", "a?b", None),
        ("kv/data/{{ args.team }}/api", "a\nb", None),
        ("kv/data/{{ args.team }}/api", "a%2fb", None),
        ("kv/data/{{ args.team }}/api", "\uff0e\uff0e", None),
        ("kv/data/{{ args.team }}", "x" * 600, None),
        ("{{ args.team }}/data/{{ args.team }}", "sys/x", None),
        ("{{ args.team }}", "kv/data/sales/api", "kv/data/sales/api"),
        ("{{ args.team }}", "sys/leases/lookup", None),
        ("{{ args.team }}", "auth/token/create", None),
        ("{% if args.team %}kv/data/a{% else %}kv/data/b{% endif %}", "x", "kv/data/a"),
    ],
)  # fmt: skip
def test_an_argument_fills_its_gap_in_a_path_and_no_more(secure_ml, path, given, leased):
    for known in ("kv/data/sales/api", "kv/data/a"):
        secure_ml.lease(known, ttl_s=None, key="api-key-0001")
    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"api": Lease(path)})
        @task
        def body(team, api):
            return api["key"][:3]

        body("x")
    before = len(secure_ml._here.memory_credentials.asked)

    outcome = secure_ml.run(dag.get_task("body"), team=given)

    asked = [one for one, _ in secure_ml._here.memory_credentials.asked[before:]]
    assert asked == ([] if leased is None else [leased])
    assert outcome.returned == (None if leased is None else "api")
    if leased is None:
        assert isinstance(outcome.error, ConfigurationError)


def test_what_an_engine_is_asked_with_has_an_end(secure_ml):
    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"cert": Lease("pki/issue/x", data={"common_name": "{{ args.name }}"})})
        @task
        def body(name, cert):
            """Never reached."""

        body("x")

    outcome = secure_ml.run(dag.get_task("body"), name="x" * 70_000)

    assert "data of more than 65536 characters" in str(outcome.error)
    assert not outcome.body_ran


def test_more_leases_than_one_event_names_each_have_an_end(secure_ml):
    names = {f"name_{i}": f"database/creds/r{i}" for i in range(12)}
    for path in names.values():
        secure_ml.lease(path, username="u", password=PASSWORD)

    outcome = run(secure_ml, lambda: None, names)

    assert outcome.error is None
    facts = secure_ml._here.audit.facts
    intents = [one for one in facts if one.phase == "intent" and one.act == "lease.grant"]
    assert len(intents) == 4
    assert sum(one.act == "lease.revoke" for one in facts) == 12
    assert secure_ml.leased == []


def test_a_shell_gets_no_path_of_a_field_whose_name_cannot_be_a_files(secure_ml):
    secure_ml.lease(PATH, **{"a/b": "secret-text"})
    with DAG("leasing", schedule=None) as dag:
        secure(
            BashOperator(task_id="body", bash_command="cat {{ secure.warehouse }}/*"),
            credentials={"warehouse": PATH},
        )

    outcome = secure_ml.run(dag.get_task("body"))

    assert isinstance(outcome.error, ConfigurationError)
    assert "a field of this name cannot be a file" in str(outcome.error)
    assert secure_ml.leased == []
    assert "secret-text" not in str(outcome.error)
