"""What Airflow does not take, or does not answer, after a body succeeded."""

from __future__ import annotations

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_secure_ml import secure
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.testing import task_context


@pytest.fixture
def operator(bench):
    with DAG("churn", schedule=None):
        made = PythonOperator(task_id="train", python_callable=lambda out: out.write_text("made"))
    return secure(made, writes={"out": str(bench.path("out"))})


def no_answer(*_, **__):
    raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))


def end_of(bench):
    event = [event for event in bench.events() if event["act"] == "task.secure"][-1]
    return event["phase"], event["result"], event["why"], event["more"]["step"]


def test_a_reference_that_airflow_did_not_take_is_no_success_in_the_trail(
    bench, execute, operator, monkeypatch
):
    monkeypatch.setattr(task_context.TaskInstance, "xcom_push", no_answer)

    with pytest.raises(AirflowRuntimeError):
        execute(operator)

    assert end_of(bench) == ("outcome", "failed", "service_unavailable", "announce")
    assert bench.read("out") == "made"


@pytest.mark.parametrize("answer", [no_answer, lambda **_: {}], ids=["no answer", "no state"])
def test_without_airflows_word_that_the_try_runs_nothing_is_published(
    bench, execute, operator, monkeypatch, answer
):
    monkeypatch.setattr(
        task_context.TaskInstance, "get_task_states", lambda self, **how: answer(**how)
    )

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class tells the cases apart
        execute(operator)

    refused = answer is not no_answer
    assert isinstance(caught.value, ServiceUnavailableError) is not refused
    expected = ("refused", "try_replaced") if refused else ("failed", "service_unavailable")
    assert end_of(bench) == ("outcome", *expected, "package")
    assert bench.published() == {}
    assert not bench.path("out.sig").exists()
