"""What the operators of erasure do; run as a worker would, over ports in memory."""

from __future__ import annotations

import pendulum
import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_secure_ml import secure
from airflow_secure_ml.core.policy_file import parse_rules
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.operators import FindExpiredOperator, ShredDataSetOperator


@pytest.fixture
def run(secure_ml):
    """Run one operator in a DAG."""

    def call(make, **options):
        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            make()
        return secure_ml.run(dag.tasks[0], **options)

    return call


def write(name="visits", **context):
    from airflow_secure_ml.securing.options import Writes

    @secure(writes={"out": Writes(f"/lake/{name}", context=context)})
    @task
    def produce(out):
        out.mkdir()
        (out / "a.csv").write_text("age\n54\n")

    return produce


def read(name="visits"):
    @secure(reads={"source": f"/lake/{name}"})
    @task
    def consume(source):
        return (source / "a.csv").read_text()

    return consume


def shred(reason="patient asked"):
    return lambda: ShredDataSetOperator(task_id="t", dataset="/lake/visits", reason=reason)


def recorded(secure_ml, act):
    return [(e.phase, e.outcome, e.why) for e in secure_ml.events if e.act == act]


def test_a_shredded_data_set_is_refused_with_that_reason(secure_ml, run):
    assert run(write()).error is None
    assert run(read()).returned == "age\n54\n"

    done = run(shred())

    assert done.error is None
    assert done.returned["objects"] == 1
    assert done.returned["copies"] == 1
    refused = run(read())
    assert isinstance(refused.error, AirflowFailException)
    assert refused.error.why == "key_destroyed"
    assert recorded(secure_ml, "dataset.shred") == [
        ("intent", None, None),
        ("outcome", "ok", None),
    ]


@pytest.mark.parametrize("reason", ["", " ", "x" * 1001], ids=["none", "blank", "long"])
def test_a_reason_is_needed(secure_ml, run, reason):
    run(write())

    done = run(shred(reason))

    assert isinstance(done.error, AirflowFailException)
    assert run(read()).returned == "age\n54\n"


def test_what_is_no_data_set_is_refused_and_not_retried(secure_ml, run):
    done = run(shred())

    assert isinstance(done.error, AirflowFailException)
    assert recorded(secure_ml, "dataset.shred") == []


def test_data_sets_past_their_life_are_listed_for_a_mapped_shredding(secure_ml, run):
    run(write("old", keep_until="2020-01-31"))
    run(write("new", keep_until="2999-01-31"))
    run(write("for-good"))

    done = run(lambda: FindExpiredOperator(task_id="find", prefix="/lake"))

    assert done.returned == [deployment().canonical("/lake/old")]


def test_a_signer_whom_the_rule_excludes_ends_no_life(secure_ml, run):
    run(write("old", keep_until="2020-01-31"))
    here = deployment()
    here.memory_keys.create("clinic", "sign")
    text = b'version = "1"\n[[data]]\nprefix = "/lake/"\nsigners = ["clinic"]\n'
    rules = parse_rules(text, canonical=here.canonical)
    here.__dict__["rules"] = rules

    done = run(lambda: FindExpiredOperator(task_id="find", prefix="/lake"))

    assert done.error is None
    assert done.returned == []
