"""A forged XCom in a real task: a bare address in the place of a Reference lifts no pin."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import set_current_context

from airflow_secure_ml import secure
from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.operators import EncryptFileOperator, VerifyArtifactOperator
from airflow_secure_ml.testing.task_context import Announced, TaskInstance, make_context


@pytest.fixture
def dag():
    with DAG("churn", schedule=None) as made:

        @secure(writes={"raw": "file:///lake/raw.csv"})
        @task
        def ingest(raw: Path):
            raw.write_text("x")

        @secure(reads=["table"])
        @task
        def train(table: Path):
            return table.read_text()

        @secure(reads=["table"])
        @task
        def listed(table: Path):
            return table.read_text()

        @task
        def where():
            return "file:///lake/raw.csv"

        train(ingest()["raw"])
        sealed = EncryptFileOperator.partial(task_id="seal").expand_kwargs(
            [{"source": "file:///in/a", "target": "file:///lake/a"}]
        )
        train.override(task_id="mapped").expand(table=sealed.output)
        listed(where())
        VerifyArtifactOperator(task_id="verify", artifact=sealed.output)
    return made


def run(dag, task_id, pulled):
    authored = dag.get_task(task_id)
    if authored.is_mapped:
        authored = authored.unmap({"op_kwargs": {"table": pulled}})
        authored.dag = dag
    operator = authored.prepare_for_execution()
    ti = TaskInstance(operator, "r1", 0 if dag.get_task(task_id).is_mapped else -1)
    ti.xcom_pull = lambda *_, **__: pulled
    context = make_context(operator, ti, "2026-01-01", Announced())
    with set_current_context(context):
        operator.render_template_fields(context, dag.get_template_env())
        return operator.execute(context)


@pytest.mark.parametrize("task_id", ["train", "mapped", "verify"])
def test_a_bare_address_in_the_place_of_a_reference_is_refused(secure_ml, dag, task_id):
    secure_ml.put("file:///lake/raw.csv", b"older")

    with pytest.raises(IntegrityError, match="XCom was changed"):
        run(dag, task_id, "file:///lake/raw.csv")

    assert secure_ml.events[-1].why == "digest_differs"


def test_the_reference_itself_is_taken(secure_ml, dag):
    reference = secure_ml.run(dag.get_task("ingest")).writes["raw"]

    ti_run = secure_ml.run(dag.get_task("train"), table=reference)

    assert ti_run.returned == "x"


def test_an_address_that_a_task_returned_is_one(secure_ml, dag):
    secure_ml.put("file:///lake/raw.csv", b"plain address")

    assert secure_ml.run(dag.get_task("listed"), table="file:///lake/raw.csv").returned
