"""`dag.declare`: the DAG processor says which tasks of a DAG are secured, once for each change."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.dag_processing import processor
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from pydantic import TypeAdapter

from airflow_secure_ml import policies, secure
from airflow_secure_ml.operators import VerifyArtifactOperator
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.sensors import SignedArtifactSensor
from airflow_secure_ml.settings import reset_settings
from airflow_secure_ml.testing.ports import MemoryAudit


@pytest.fixture
def audit(monkeypatch, tmp_path):
    """The DAG processor's process, as far as policies can tell, and what it records."""
    comms = SimpleNamespace(body_decoder=TypeAdapter(processor.ToDagProcessor))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    monkeypatch.setenv("AIRFLOW__SECURE_ML__AUDIT_DIR", str(tmp_path / "audit"))
    reset_settings()
    sink = MemoryAudit()
    use_sink(sink)
    yield sink
    use_sink(None)
    reset_settings()


def dag_with(*secured: str, dag_id: str = "d") -> DAG:
    with DAG(dag_id, schedule=None) as dag:
        BashOperator(task_id="plain", bash_command="x")
        for name in secured:
            task = BashOperator(task_id=name, bash_command="x")
            secure(task, reads={"table": "/lake/table.csv"})
    return dag


def declared(audit):
    return [fact.more["secured"] for fact in audit.facts if fact.act == "dag.declare"]


def test_a_dag_is_declared_once_for_each_change(audit):
    for secured in (["a"], ["a"], ["a", "b"], ["a", "b"], [], []):
        policies.dag_policy(dag_with(*secured))

    assert declared(audit) == [["a"], ["a", "b"], []]
    fact = audit.facts[1]
    assert (fact.phase, fact.result, fact.run.dag, fact.run.run) == ("seen", "ok", "d", "")
    assert (fact.more["tasks"], fact.more["file"]) == (3, "test_policies.py")
    assert audit.settled == len(audit.facts)


def test_a_dag_that_secures_nothing_leaves_no_trace(audit, tmp_path):
    policies.dag_policy(dag_with())

    assert audit.facts == []
    assert not (tmp_path / "audit").exists()


def test_mapped_tasks_operators_and_sensors_count(audit):
    with DAG("d", schedule=None) as dag:
        secure(
            BashOperator.partial(task_id="mapped").expand(bash_command=["x"]),
            reads={"table": "/lake/table.csv"},
        )
        VerifyArtifactOperator(task_id="gate", artifact="/lake/table.csv")
        SignedArtifactSensor(task_id="wait", artifact="/lake/table.csv")
    policies.dag_policy(dag)

    assert declared(audit) == [["gate", "mapped", "wait"]]


def test_a_large_dag_is_several_events_of_one_version(audit):
    names = [f"t{number:03}" for number in range(250)]
    policies.dag_policy(dag_with(*names))

    assert [len(part) for part in declared(audit)] == [100, 100, 50]
    assert [name for part in declared(audit) for name in part] == names
    assert len({fact.more["version"] for fact in audit.facts}) == 1


def test_what_was_not_recorded_is_tried_again(audit, caplog):
    audit.broken = True
    policies.dag_policy(dag_with("a"))
    audit.broken = False
    policies.dag_policy(dag_with("a"))

    assert declared(audit)[-1] == ["a"]
    assert "no record of which tasks of DAG d are secured: ServiceUnavailableError" in caplog.text


def test_a_record_of_declarations_that_is_not_one_is_replaced(audit, tmp_path):
    policies.dag_policy(dag_with("a"))
    (name,) = (tmp_path / "audit" / "declared").iterdir()
    name.write_bytes(b"\xff" * 10_000)
    policies.dag_policy(dag_with("a"))

    assert declared(audit) == [["a"], ["a"]]
    assert name.stat().st_size == len("sha256:") + 64


def test_a_task_process_that_parses_the_file_says_nothing(audit, monkeypatch):
    comms = SimpleNamespace(body_decoder=TypeAdapter(task_runner.ToTask))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms)

    policies.dag_policy(dag_with("a"))

    assert audit.facts == []


def test_parsing_loads_nothing_slow():
    script = (
        "import sys, airflow_secure_ml.policies; "
        "print(sorted({'great_expectations', 'boto3', 'pandas',"
        " 'airflow_secure_ml.settings'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert done.stdout.split(b"\n")[-2] == b"[]"
