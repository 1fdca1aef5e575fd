"""Tasks under a crypto policy: what secure() writes and reads, and the operators of a change."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path

import pendulum
import pytest

from airflow_secure_ml.core.crypto_policy import parse_crypto_policy
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.services.governed_keys import GovernedKeys

pytestmark = pytest.mark.airflow

LAKE = "s3://lake/data"
TO_2 = {"write": {"suites": ["cobblestone-256"]}}
ONLY_2 = {**TO_2, "read": {"suites": ["cobblestone-256"]}}


@pytest.fixture
def policy(secure_ml):
    """Change the policy of the deployment."""

    def policy(**parts):
        here, parsed = deployment(), parse_crypto_policy(json.dumps(parts))
        here.settings = replace(here.settings, crypto_policy=parsed)
        here.keys = GovernedKeys(here.memory_keys, parsed)

    return policy


@pytest.fixture
def dag():
    from airflow.sdk import DAG, task

    from airflow_secure_ml import Reads, secure
    from airflow_secure_ml.operators import CryptoUsageOperator, ResealArtifactOperator

    with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as made:

        @secure(writes={"table": f"{LAKE}/t.csv"})
        @task
        def write(table: Path) -> None:
            table.write_text("age\n1\n")

        @secure(reads={"table": f"{LAKE}/t.csv"})
        @task
        def read(table: Path) -> str:
            return table.read_text()

        @secure(reads={"table": Reads(f"{LAKE}/t.csv", stream=True)})
        @task
        def stream(table: BufferedIOBase) -> str:
            return table.read().decode()

        write()
        read()
        stream()
        ResealArtifactOperator(task_id="reseal", artifact=f"{LAKE}/t.csv")
        ResealArtifactOperator(task_id="nothing_there", artifact=f"{LAKE}/none")
        CryptoUsageOperator(task_id="count", prefixes=LAKE, refuse_old=True)
    return made


def suite_of(secure_ml):
    return deployment().objects.objects[f"{LAKE}/t.csv"][9]


def test_a_secured_task_writes_the_suite_of_the_policy_and_another_reads_it(secure_ml, dag, policy):
    policy(**TO_2)

    written = secure_ml.run(dag.get_task("write"))

    assert (written.error, suite_of(secure_ml)) == (None, 2)
    assert secure_ml.run(dag.get_task("read")).returned == "age\n1\n"


def test_a_stream_of_a_suite_without_random_access_is_refused_before_the_body(
    secure_ml, dag, policy
):
    policy(**TO_2)
    secure_ml.run(dag.get_task("write"))

    run = secure_ml.run(dag.get_task("stream"))

    assert (run.refused, run.body_ran) == (True, False)
    assert "sealed in suite cobblestone-256" in str(run.error)
    assert "without stream=True" in str(run.error)


def test_a_file_of_a_suite_that_is_not_read_any_more_never_reaches_a_body(secure_ml, dag, policy):
    secure_ml.run(dag.get_task("write"))
    policy(**ONLY_2)

    run = secure_ml.run(dag.get_task("read"))

    assert (run.refused, run.body_ran) == (True, False)
    assert "[secure_ml] crypto_policy (read.suites)" in str(run.error)
    assert secure_ml.events[-1].why == "rule_denied"


def test_a_task_that_may_not_sign_publishes_nothing(secure_ml, dag, policy):
    policy(write={"signatures": ["ml-dsa-65"]})

    run = secure_ml.run(dag.get_task("write"))

    assert run.refused
    assert "write.signatures" in str(run.error)
    assert f"{LAKE}/t.csv" not in deployment().objects.objects


def test_the_operators_move_an_artifact_and_prove_it(secure_ml, dag, policy):
    secure_ml.run(dag.get_task("write"))
    policy(**TO_2)
    before = secure_ml.run(dag.get_task("count"))

    first = secure_ml.run(dag.get_task("reseal")).returned
    second = secure_ml.run(dag.get_task("reseal")).returned

    assert before.refused
    assert "1 of 1 sealed objects" in str(before.error)
    assert (first["suite"], first["files"], suite_of(secure_ml)) == ("cobblestone-256", 1, 2)
    assert (first["replaced"] is None, second["replaced"]) == (False, None)
    assert second["digest"] == first["digest"]
    count = secure_ml.run(dag.get_task("count")).returned
    assert (count["suites"], count["old"]) == ({"cobblestone-256": 1}, 0)
    assert secure_ml.run(dag.get_task("read")).returned == "age\n1\n"
    again = secure_ml.run(dag.get_task("write"))
    assert again.error is None, "the task that made it may still replace it"


def test_where_nothing_lies_there_is_nothing_to_seal_anew(secure_ml, dag):
    run = secure_ml.run(dag.get_task("nothing_there"))

    assert run.refused
    assert "found nothing there" in str(run.error)
