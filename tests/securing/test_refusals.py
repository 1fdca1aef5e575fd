"""What cannot be secured is an import error, which names the task, the entry and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG, Asset, BaseOperator, task, task_group

from airflow_secure_ml import Lease, Reads, Writes, secure
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing.refusals import REMOTE_OPERATORS

TABLE = "/lake/table.csv"
MODEL = "/lake/model.bin"


class SuiteLike:
    """Stands for a Great Expectations suite object."""


class KubernetesPodOperator(BaseOperator):
    """Known by its name, whoever ships it."""


class TeamsOwnPodOperator(KubernetesPodOperator):
    """A subclass is as remote as its base."""


def body(table: Path, model: Path) -> None:
    """A task's function."""


def plain(number: int) -> None:
    """A function that knows of no path."""


def bash(command="cat {{ secure.table }}", **declared):
    secure(BashOperator(task_id="shell", bash_command=command), **declared)


def decorated(function=body, **declared):
    return secure(**declared)(task(function))


def task_above_secure():
    task(secure(reads={"table": TABLE})(body))


def an_undecorated_function():
    secure(body, reads={"table": TABLE})


def secured_twice():
    decorated(reads={"table": TABLE}, writes={"model": MODEL})
    secure(
        secure(BashOperator(task_id="shell", bash_command="true"), reads={"table": TABLE}),
        reads={"other": TABLE},
    )


def mapped_with_one_address():
    decorated(reads=["table"], writes={"model": MODEL}).expand(table=[TABLE, "/lake/b.csv"])


def mapped_before_expand_with_one_address():
    secure(BashOperator.partial(task_id="shell"), writes={"model": MODEL}).expand(
        bash_command=["a", "b"]
    )


def mapped_after_expand_with_one_address():
    secure(
        BashOperator.partial(task_id="shell").expand(bash_command=["a", "b"]),
        writes={"model": MODEL},
    )


def a_mapped_group_with_one_address():
    @task_group
    def group(number):
        bash(f"echo {number}", writes={"model": MODEL})

    group.expand(number=[1, 2])


def two_tasks_with_one_address():
    bash("x", writes={"model": MODEL})
    secure(BashOperator(task_id="second", bash_command="y"), writes={"table": MODEL})


def passed_and_declared():
    decorated(reads={"table": TABLE}, writes={"model": MODEL})(table="/elsewhere.csv")


def passed_and_declared_when_mapped():
    decorated(reads={"table": TABLE}, writes={"model": "/{{ ti.map_index }}"}).expand_kwargs(
        [{"table": "/elsewhere.csv"}]
    )


def started_by_a_trigger():
    waiting = DateTimeSensorAsync(task_id="wait", target_time="x", start_from_trigger=True)
    secure(waiting, reads={"table": TABLE})


def ended_by_a_trigger():
    waiting = BashOperator(task_id="wait", bash_command="x")
    waiting.end_from_trigger = True
    secure(waiting, reads={"table": TABLE})


def streamed_into_another_python():
    secure(reads={"table": Reads(TABLE, stream=True)})(
        task.external_python(python="/usr/bin/python3")(plain)
    )


REFUSED = {
    "@task above @secure": (task_above_secure, "put @secure above @task"),
    "no task at all": (an_undecorated_function, "put @secure above @task"),
    "secured twice": (secured_twice, "name all reads and writes in one secure()"),
    "nothing declared": (lambda: bash(), "name at least one entry"),
    "a name without a parameter": (
        lambda: decorated(plain, reads={"table": TABLE}),
        "'plain'.*'table'.*write def plain(…, table: Path)",
    ),
    "a name in reads and writes": (
        lambda: bash(reads={"table": TABLE}, writes={"table": MODEL}),
        "'table' stands in reads and in writes; give each its own name",
    ),
    "a name twice in a list": (
        lambda: decorated(reads=["table", "table"], writes={"model": MODEL}),
        "'table' stands there twice",
    ),
    "a context key of Airflow's": (
        lambda: bash("x", reads={"ds": TABLE}),
        "'shell'.*'ds'.*Airflow's own context; rename it",
    ),
    "a context key as a parameter": (
        lambda: decorated(lambda run_id: None, writes={"run_id": MODEL}),
        "'run_id'.*Airflow's own context; rename it",
    ),
    "the name secure": (lambda: bash(reads={"secure": TABLE}), "'secure'.*rename it"),
    "the name args": (lambda: bash(reads={"args": TABLE}), "'args'.*rename it"),
    "no name": (lambda: bash(reads={"2": TABLE}), "'2' cannot be a name"),
    "{{ secure.typo }}": (
        lambda: bash("cat {{ secure.tabel }}", reads={"table": TABLE}),
        "'shell'.*bash_command.*secure.tabel.*names only table",
    ),
    "a typo in another field": (
        lambda: secure(
            BashOperator(task_id="shell", bash_command="x", env={"T": "{{ secure['tabel'] }}"}),
            reads={"table": TABLE},
        ),
        "'shell'.*env.*secure.tabel.*names only table",
    ),
    "a typo in what is mapped over": (
        lambda: secure(BashOperator.partial(task_id="shell"), reads={"table": TABLE}).expand(
            bash_command=["cat {{ secure.table }}", "cat {{ secure.tabel }}"]
        ),
        "'shell'.*secure.tabel.*names only table",
    ),
    "EmptyOperator": (
        lambda: secure(EmptyOperator(task_id="nothing"), reads={"table": TABLE}),
        "'nothing'.*EmptyOperator.*remove secure()",
    ),
    "a remote operator": (
        lambda: secure(KubernetesPodOperator(task_id="pod"), reads={"table": TABLE}),
        "'pod'.*KubernetesPodOperator.*remote=True",
    ),
    "a remote operator's subclass": (
        lambda: secure(TeamsOwnPodOperator(task_id="pod"), reads={"table": TABLE}),
        "'pod'.*KubernetesPodOperator.*remote=True",
    ),
    "a mapped remote operator": (
        lambda: secure(KubernetesPodOperator.partial(task_id="pod"), reads={"table": TABLE}),
        "'pod'.*KubernetesPodOperator",
    ),
    "remote=True with a stream": (
        lambda: bash(reads={"table": Reads(TABLE, stream=True)}, remote=True),
        "reads['table'].stream.*remote=True",
    ),
    "remote=True with expectations": (
        lambda: bash(reads={"table": Reads(TABLE, expect="suite.json")}, remote=True),
        "reads['table'].expect.*remote=True",
    ),
    "remote=True with columns": (
        lambda: bash(writes={"table": Writes(TABLE, columns={"a": "pii"})}, remote=True),
        "writes['table'].columns.*remote=True",
    ),
    "credentials= without names": (
        lambda: bash(credentials=["database/creds/reader"]),
        "credentials=.*expected a mapping",
    ),
    "a credential that is no path": (
        lambda: bash(credentials={"warehouse": "../sys/unseal"}),
        "credentials['warehouse'].*is no path.*database/creds/reader",
    ),
    "a path that hands out no credential": (
        lambda: bash(credentials={"warehouse": "auth/token/create"}),
        "auth/token/create hands out no credential",
    ),
    "a credential of another type": (
        lambda: bash(credentials={"warehouse": 7}),
        "credentials['warehouse'] is a int.*Lease",
    ),
    "data that is no mapping": (
        lambda: bash(credentials={"cert": Lease("pki/issue/x", data=["common_name"])}),
        "credentials['cert']: expected a text as path, and a mapping of texts",
    ),
    "data that is no text": (
        lambda: bash(credentials={"cert": Lease("pki/issue/x", data={"ttl": 60})}),
        "credentials['cert']: expected a text as path, and a mapping of texts",
    ),
    "a connection that is none": (
        lambda: bash(credentials={"db": Lease("database/creds/x", conn_id="{{ args.x }}")}),
        "credentials['db'].conn_id: '{{ args.x }}' is no connection's id",
    ),
    "a credential and a read of one name": (
        lambda: bash(reads={"table": TABLE}, credentials={"table": "database/creds/reader"}),
        "'table' stands in reads and in credentials",
    ),
    "two credentials for one connection": (
        lambda: bash(
            credentials={
                "a": Lease("database/creds/a", conn_id="warehouse"),
                "warehouse": "database/creds/b",
            }
        ),
        "two credentials are for one connection",
    ),
    "a glob": (
        lambda: bash(reads={"table": "/lake/*.csv"}),
        "reads['table'].*/lake/*.csv.*is a glob; name one file or directory",
    ),
    "a glob in a list": (
        lambda: bash(reads={"table": [TABLE, "/lake/part-[0-9].csv"]}),
        "reads['table'].*is a glob",
    ),
    "a glob to write": (
        lambda: bash("x", writes={"model": "/lake/?.bin"}),
        "writes['model'].*glob",
    ),
    "a NUL": (lambda: bash(reads={"table": "/lake/a\0b"}), "reads['table'] holds a NUL"),
    "a mapped task's one address": (
        mapped_with_one_address,
        "'body'.*is mapped.*writes['model'].*ti.map_index",
    ),
    "one address before expand": (
        mapped_before_expand_with_one_address,
        "'shell'.*is mapped.*writes['model'].*ti.map_index",
    ),
    "one address after expand": (
        mapped_after_expand_with_one_address,
        "'shell'.*is mapped.*writes['model'].*ti.map_index",
    ),
    "one address in a mapped group": (
        a_mapped_group_with_one_address,
        "'group.shell'.*is mapped.*writes['model'].*ti.map_index",
    ),
    "start_from_trigger": (started_by_a_trigger, "'wait'.*start_from_trigger=True.*to False"),
    "end_from_trigger": (ended_by_a_trigger, "'wait'.*end_from_trigger=True.*to False"),
    "a suite object to read": (
        lambda: bash(reads={"table": Reads(TABLE, expect=SuiteLike())}),
        "reads['table'].expect is a SuiteLike; give a JSON file's path, or a callable",
    ),
    "a suite object to write": (
        lambda: bash("x", writes={"model": Writes(MODEL, expect=SuiteLike())}),
        "writes['model'].expect is a SuiteLike",
    ),
    "one address in two tasks": (
        two_tasks_with_one_address,
        f"'second'.*writes['table'].*writes['model'].*'shell'.*{MODEL}",
    ),
    "declared and passed": (passed_and_declared, "'body'.*'table'.*give it once"),
    "declared and mapped over": (
        passed_and_declared_when_mapped,
        "'body'.*'table'.*give it once",
    ),
    "an operator without an address": (
        lambda: bash(reads=["table"]),
        "'shell'.*'table' without an address.*{'table': address}",
    ),
    "an address instead of a mapping": (
        lambda: bash(reads=TABLE),
        "reads='/lake/table.csv'.*write reads={'data': '/lake/table.csv'}",
    ),
    "Reads in writes": (lambda: bash(writes={"model": Reads(MODEL)}), "writes['model'] is a Reads"),
    "Writes in reads": (lambda: bash(reads={"table": Writes(TABLE)}), "reads['table'] is a Writes"),
    "an asset to write to": (
        lambda: bash(writes={"model": Asset("model")}),
        "writes['model'].*name the asset in Writes(…, asset=…)",
    ),
    "quarantine without expectations": (
        lambda: bash(reads={"table": Reads(TABLE, quarantine="/lake/bad.csv")}),
        "reads['table'] has quarantine= without expect=",
    ),
    "expectations of a stream": (
        lambda: decorated(reads={"table": Reads(TABLE, stream=True, expect="s.json")}),
        "reads['table'] is streamed and has expectations",
    ),
    "a stream into another Python": (
        streamed_into_another_python,
        "reads['table'].*drop stream=True",
    ),
    "nobody may sign": (
        lambda: bash(reads={"table": Reads(TABLE, signed_by=[])}),
        "reads['table'].signed_by is empty",
    ),
    "context that the package sets": (
        lambda: bash("x", writes={"model": Writes(MODEL, context={"dag_id": "other"})}),
        "writes['model'].context['dag_id'] is set by the package",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_while_the_dag_is_parsed(case):
    build, parts = REFUSED[case]

    with DAG("refused", schedule=None), pytest.raises(ConfigurationError) as caught:
        build()

    rest = str(caught.value)
    for part in parts.split(".*"):
        before, found, rest = rest.partition(part)
        assert found, f"{part!r} not in {before!r}"
    assert caught.value.why == "misconfigured"


@pytest.mark.parametrize("name", sorted(REMOTE_OPERATORS))
def test_every_known_remote_operator_is_told_by_its_name(name):
    operator = type(name, (BaseOperator,), {})

    with DAG("refused", schedule=None), pytest.raises(ConfigurationError, match=name):
        secure(operator(task_id="far"), reads={"table": TABLE})


def test_airflow_shows_it_as_the_files_import_error(tmp_path):
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "broken.py").write_text(
        "from airflow.sdk import DAG\n"
        "from airflow.providers.standard.operators.bash import BashOperator\n"
        "from airflow_secure_ml import secure\n"
        "with DAG('broken', schedule=None):\n"
        "    secure(BashOperator(task_id='shell', bash_command='{{ secure.tabel }}'),\n"
        "           reads={'table': '/lake/table.csv'})\n"
    )
    (found,) = DagBag(str(tmp_path)).import_errors.values()

    assert "ConfigurationError" in found
    assert "'shell'" in found
    assert "{{ secure.tabel }}" in found


# What is close to a refusal and must pass.
def addresses_of_its_own():
    decorated(reads=["table"], writes={"model": "/{{ args.table }}.bin"}).expand(table=[TABLE])


def two_tasks_whose_addresses_differ_when_rendered():
    bash("x", writes={"model": "/{{ ti.task_id }}"})
    secure(BashOperator(task_id="second", bash_command="y"), writes={"model": "/{{ ti.task_id }}"})


def a_function_that_takes_everything():
    def takes_all(**paths):
        return paths

    decorated(takes_all, reads={"table": TABLE})()


def a_python_operator():
    secure(
        PythonOperator(task_id="python", python_callable=body),
        reads={"table": TABLE},
        writes={"model": MODEL},
    )


def a_glob_sign_inside_a_template():
    bash(reads={"table": "/lake/{{ ['a', 'b'][0] }}.csv"})


ALLOWED = [
    addresses_of_its_own,
    two_tasks_whose_addresses_differ_when_rendered,
    a_function_that_takes_everything,
    a_python_operator,
    a_glob_sign_inside_a_template,
]


@pytest.mark.parametrize("build", ALLOWED, ids=lambda build: build.__name__)
def test_what_looks_alike_is_allowed(build):
    with DAG("allowed", schedule=None) as dag:
        build()

    assert dag.tasks


@pytest.mark.parametrize(
    "name",
    [
        "BatchOperator",
        "DatabricksRunNowOperator",
        "DatabricksSubmitRunOperator",
        "DataprocSubmitJobOperator",
        "DockerOperator",
        "DockerSwarmOperator",
        "EcsRunTaskOperator",
        "EksPodOperator",
        "EmrAddStepsOperator",
        "EmrContainerOperator",
        "GKEStartPodOperator",
        "KubernetesJobOperator",
        "KubernetesPodOperator",
        "LivyOperator",
        "SSHOperator",
        "SageMakerProcessingOperator",
        "SageMakerTrainingOperator",
        "SparkKubernetesOperator",
        "SparkSubmitOperator",
    ],
)
def test_each_operator_that_runs_elsewhere_is_known_by_its_name(name):
    operator = type(name, (BaseOperator,), {})

    with pytest.raises(ConfigurationError, match=f"'job'.*{name}.*remote=True"):
        secure(operator(task_id="job"), reads={"table": TABLE})
