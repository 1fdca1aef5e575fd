"""The fixture `secure_ml`, as somebody uses it who tests a DAG of their own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, task

from airflow_secure_ml import Reads, Writes, open_artifact, secure
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.operators import SignArtifactOperator, VerifyArtifactOperator

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
TABLE = "s3://lake/tables/{{ ds }}.csv"
MODEL = Asset("tested-model")


@pytest.fixture(scope="session")
def dag():
    with DAG("mine", schedule=None) as made:

        @secure(reads=["table"], writes={"model": Writes("s3://models/{{ ds }}.txt", asset=MODEL)})
        @task
        def train(table: Path, model: Path, factor: int = 1) -> float:
            ages = [int(line) for line in table.read_text().split()[1:]]
            model.write_text(str(sum(ages) / len(ages) * factor))
            return sum(ages) / len(ages)

        @task
        def ingest() -> dict[str, str]:
            return {"table": "s3://lake/raw.csv"}

        @secure(reads={"model": MODEL})
        @task
        def serve(model: Path) -> str:
            return model.read_text()

        @secure(reads=["part"], writes={"out": "s3://lake/{{ args.label }}.txt"})
        @task
        def mapped(part: Path, out: Path, label: str) -> str:
            out.write_bytes(part.read_bytes())
            return label

        @secure(reads={"table": Reads("s3://lake/t.csv")})
        @task
        async def asynchronous(table: Path) -> int:
            return len(table.read_bytes())

        @secure(reads={"table": "s3://lake/t.csv"})
        @task
        def careless(table: Path) -> None:
            raise KeyError("body")

        @secure(reads={"table": "s3://lake/t.csv"})
        @task
        def where(table: Path) -> str:
            return str(table)

        secure(
            BashOperator(task_id="shell", bash_command="cat {{ secure.table }} | wc -c"),
            reads={"table": "s3://lake/t.csv"},
        )
        SignArtifactOperator(task_id="release", artifact="s3://lake/t.csv", key="release")
        VerifyArtifactOperator(task_id="gate", artifact="s3://lake/t.csv")
        train(ingest()["table"])
        serve()
        mapped.partial().expand_kwargs([{"part": "s3://lake/t.csv", "label": "a"}])
        asynchronous()
        careless()
        where()
    return made


def test_a_tampered_table_never_reaches_training(secure_ml, dag):
    secure_ml.put("s3://lake/tables/2026-01-01.csv", b"age\n1\n3\n")
    secure_ml.flip_a_bit("s3://lake/tables/2026-01-01.csv")

    run = secure_ml.run(dag.get_task("train"), ds="2026-01-01", table=TABLE)

    assert run.refused
    assert not run.body_ran
    assert secure_ml.events[-1].outcome == "refused"
    assert secure_ml.events[-1].why == "digest_differs"


def test_a_trained_model_is_sealed_and_signed(secure_ml, dag):
    secure_ml.put("s3://lake/tables/2026-01-01.csv", b"age\n1\n3\n")

    run = secure_ml.run(dag.get_task("train"), ds="2026-01-01", table=TABLE)

    assert (run.error, run.body_ran, run.refused) == (None, True, False)
    assert run.returned == 2.0
    assert run.writes["model"]["signed_by"] == ["pipeline"]
    assert secure_ml.open("s3://models/2026-01-01.txt") == b"2.0"


def test_the_trail_tells_a_run_in_order(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")
    secure_ml.run(dag.get_task("train"), table="s3://lake/t.csv")

    assert [(event.act, event.outcome) for event in secure_ml.events] == [
        ("task.secure", None),
        ("object.verify", "ok"),
        ("object.open", "ok"),
        ("object.seal", "ok"),
        ("object.publish", None),
        ("object.sign", "ok"),
        ("object.publish", "ok"),
        ("scratch.shred", "ok"),
        ("task.secure", "ok"),
    ]


def test_an_asset_carries_the_model_to_whoever_serves_it(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n4\n")

    before = secure_ml.run(dag.get_task("serve"))
    secure_ml.run(dag.get_task("train"), table="s3://lake/t.csv")
    after = secure_ml.run(dag.get_task("serve"))

    assert before.refused
    assert after.returned == "4.0"


@pytest.mark.parametrize("scheme", ["s3://bucket/t.csv", "gs://b/t.csv", "/data/t.csv"])
def test_any_address_is_in_memory(secure_ml, scheme):
    secure_ml.put(scheme, b"age\n1\n")

    assert secure_ml.open(scheme) == b"age\n1\n"


def test_a_connection_in_an_address_names_no_other_object(secure_ml):
    secure_ml.put("s3://lake_conn@bucket/t.csv", b"age\n1\n")

    assert secure_ml.open("s3://bucket/t.csv") == b"age\n1\n"


@pytest.mark.parametrize(
    ("put", "why"),
    [
        ({"signed_by": None}, "not_signed"),
        ({"signed_by": "stranger"}, "signer_not_accepted"),
        ({"sealed": False}, "not_sealed"),
    ],
)
def test_what_the_lake_should_not_hold_is_refused(secure_ml, dag, put, why):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n", **put)

    run = secure_ml.run(dag.get_task("shell"))

    assert (run.refused, run.body_ran, run.error.why) == (True, False, why)


def test_a_disabled_key_opens_nothing(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n", key="patients")
    secure_ml.keys.disable("patients")

    run = secure_ml.run(dag.get_task("shell"))

    assert run.error.why == "key_disabled"


def test_operators_async_bodies_and_gates_run_too(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")
    secure_ml.keys.create("release", "sign")

    assert secure_ml.run(dag.get_task("shell")).returned == "6"
    assert secure_ml.run(dag.get_task("asynchronous")).returned == 6
    assert secure_ml.run(dag.get_task("release")).returned["signed_by"] == ["release"]
    assert secure_ml.run(dag.get_task("gate")).returned["signed_by"] == ["pipeline"]


def test_a_mapped_task_runs_with_the_arguments_of_one_instance(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")

    run = secure_ml.run(dag.get_task("mapped"), part="s3://lake/t.csv", label="b", map_index=3)

    assert run.returned == "b"
    assert secure_ml.open("s3://lake/b.txt") == b"age\n1\n"


def test_what_the_body_raises_is_no_refusal(secure_ml, dag):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")

    run = secure_ml.run(dag.get_task("careless"))

    assert isinstance(run.error, KeyError)
    assert run.body_ran
    assert not run.refused


def test_open_artifact_reads_from_memory_too(secure_ml):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")

    with open_artifact("s3://lake/t.csv") as path:
        assert path.read_bytes() == b"age\n1\n"


def test_arguments_that_another_task_makes_must_be_passed(secure_ml, dag):
    with pytest.raises(ConfigurationError, match="pass table="):
        secure_ml.run(dag.get_task("train"))
    with pytest.raises(ConfigurationError, match="no field 'command'"):
        secure_ml.run(dag.get_task("shell"), command="ls")


def test_a_leased_login_is_the_bodys_and_ends_with_it(secure_ml):
    secure_ml.lease("database/creds/reader", username="u-1", password="leased-password")
    seen = []

    with DAG("leasing", schedule=None) as dag:

        @secure(credentials={"warehouse": "database/creds/reader"})
        @task
        def look(warehouse):
            seen.append((warehouse.username, warehouse["password"], secure_ml.leased))

        look()
    run = secure_ml.run(dag.get_task("look"))

    assert run.error is None
    assert seen == [("u-1", "leased-password", ["database/creds/reader/1"])]
    assert secure_ml.leased == []
    leases = [(e.act, e.outcome) for e in secure_ml.events if e.act.startswith("lease.")]
    assert leases == [("lease.grant", "ok"), ("lease.revoke", "ok")]


def test_a_lease_that_no_test_put_there_is_refused(secure_ml):
    with DAG("leasing", schedule=None) as dag:
        secure(BashOperator(task_id="look", bash_command="true"), credentials={"w": "db/creds/x"})

    run = secure_ml.run(dag.get_task("look"))

    assert run.refused
    assert not run.body_ran
    assert "nothing was put there" in str(run.error)


@pytest.fixture
def scratch(secure_ml):
    """A folder in memory that only this test's tasks use."""
    place = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    here = deployment()
    here.settings = replace(here.settings, scratch_dirs=(place,))
    yield place
    shutil.rmtree(place)


def test_nothing_stays_in_scratch(secure_ml, dag, scratch):
    secure_ml.put("s3://lake/t.csv", b"age\n1\n")
    path = secure_ml.run(dag.get_task("where")).returned
    secure_ml.run(dag.get_task("shell"))
    secure_ml.run(dag.get_task("careless"))

    assert Path(path).is_relative_to(scratch)
    assert list(scratch.iterdir()) == []


def test_the_example_trains_on_what_was_put(secure_ml):
    examples = _example("01_secure_training")
    secure_ml.keys.create("models", "wrap")

    training = examples.secure_training()
    raw = secure_ml.run(training.get_task("ingest"))
    secure_ml.flip_a_bit(raw.writes["raw"]["uri"])
    refused = secure_ml.run(training.get_task("features"), raw=raw.writes["raw"])

    assert raw.returned == raw.writes["raw"]["bytes"]
    assert (refused.refused, refused.body_ran) == (True, False)


def _example(name: str):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_pytest_loads_the_plugin_without_airflow_or_cryptography():
    script = (
        "import sys, airflow_secure_ml.testing.fixture; "
        "print(sorted({'airflow', 'cryptography', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert done.stdout.strip() == b"[]"
