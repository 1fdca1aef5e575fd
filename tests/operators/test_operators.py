"""What each operator does, and what it refuses; run as a worker would, over ports in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pendulum
import pytest
from airflow.sdk import DAG, Asset, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_secure_ml import Reads, secure
from airflow_secure_ml.operators import (
    DecryptFileOperator,
    EncryptFileOperator,
    SignArtifactOperator,
    ValidateDatasetOperator,
    VerifyArtifactOperator,
)

TABLE = b"age,visits\n54,3\n41,0\n"
BAD_TABLE = b"age,visits\n54,3\n-7,0\n"
MODEL = Asset("model")


@pytest.fixture
def run(secure_ml, tmp_path):
    """Run an operator in a DAG whose file lies beside the suite."""
    (tmp_path / "ages.json").write_text(
        json.dumps(
            {
                "name": "ages",
                "expectations": [
                    {
                        "type": "expect_column_values_to_be_between",
                        "kwargs": {"column": "age", "min_value": 0, "max_value": 110},
                    }
                ],
            }
        )
    )

    def call(make, **options):
        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            make()
        dag.fileloc = str(tmp_path / "dag.py")
        (only,) = dag.tasks
        return secure_ml.run(only, **options)

    return call


def refused(run):
    return (run.refused, isinstance(run.error, AirflowFailException))


def acts(secure_ml):
    return [(e.act, e.outcome) for e in secure_ml.events if e.phase == "outcome"]


def test_encrypt_seals_a_plain_file_and_returns_a_reference(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE, sealed=False, signed_by=None)

    done = run(
        lambda: EncryptFileOperator(
            task_id="t", source="/in/a.csv", target="/out/{{ ds }}.csv", context={"purpose": "care"}
        ),
        ds="2026-01-01",
    )

    assert (done.error, done.body_ran) == (None, True)
    assert done.returned["uri"].endswith("/out/2026-01-01.csv")
    assert done.returned["signed_by"] == ["pipeline"]
    assert secure_ml.open("/out/2026-01-01.csv") == TABLE


def test_encrypt_seals_a_sealed_file_anew_for_another_address_and_key(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)
    secure_ml.keys.create("live", "wrap")

    done = run(
        lambda: EncryptFileOperator(
            task_id="t", source="/in/a.csv", target="/live/a.csv", key="live"
        )
    )

    assert done.returned["key"] == "live/1"
    assert secure_ml.open("/live/a.csv") == TABLE


def test_encrypt_refuses_an_altered_source(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)
    secure_ml.flip_a_bit("/in/a.csv")

    done = run(lambda: EncryptFileOperator(task_id="t", source="/in/a.csv", target="/out/a.csv"))

    assert refused(done) == (True, True)
    assert not done.body_ran


def test_decrypt_delivers_in_plain_and_returns_nothing(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)

    done = run(lambda: DecryptFileOperator(task_id="t", source="/in/a.csv", target="/out/a.csv"))

    assert (done.error, done.returned) == (None, None)
    assert secure_ml.open("/out/a.csv") == TABLE


def test_decrypt_refuses_another_signer(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE, signed_by="mallory")

    done = run(lambda: DecryptFileOperator(task_id="t", source="/in/a.csv", target="/out/a.csv"))

    assert refused(done) == (True, True)
    assert secure_ml.events[-1].why == "signer_not_accepted"


def test_verify_returns_a_reference_that_pins_the_bytes(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)

    done = run(lambda: VerifyArtifactOperator(task_id="t", artifact="/in/a.csv"))

    assert done.error is None
    assert done.returned["digest"].startswith("sha256:")
    assert ("object.verify", "ok") in acts(secure_ml)
    assert "object.open" not in dict(acts(secure_ml))


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda secure_ml: None, "not_sealed"),
        (lambda secure_ml: secure_ml.put("/in/a.csv", TABLE, signed_by=None), "not_signed"),
        (
            lambda secure_ml: secure_ml.put("/in/a.csv", TABLE, signed_by="mallory"),
            "signer_not_accepted",
        ),
    ],
    ids=["nothing-there", "unsigned", "another-signer"],
)
def test_verify_refuses(secure_ml, run, prepare, why):
    prepare(secure_ml)

    done = run(lambda: VerifyArtifactOperator(task_id="t", artifact="/in/a.csv"))

    assert refused(done) == (True, True)
    assert secure_ml.events[-1].why == why


def test_verify_refuses_other_bytes_than_the_author_pinned(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)
    pinned = {"uri": "/in/a.csv", "digest": "sha256:" + "0" * 64}

    done = run(lambda: VerifyArtifactOperator(task_id="t", artifact=pinned))

    assert secure_ml.events[-1].why == "digest_differs"
    assert refused(done) == (True, True)


def test_sign_adds_a_signature_that_a_consumer_demands(secure_ml, run):
    secure_ml.put("/in/model.bin", b"model")
    secure_ml.keys.create("release", "sign")

    done = run(
        lambda: SignArtifactOperator(
            task_id="t", artifact="/in/model.bin", key="release", outlets=[MODEL]
        )
    )

    assert done.returned["signed_by"] == ["release"]
    assert secure_ml.open("/in/model.bin") == b"model"

    def score():
        @secure(reads={"model": Reads(MODEL, signed_by="release")})
        @task
        def score(model: Path) -> str:
            return model.read_text()

        score()

    assert run(score).returned == "model"


def test_sign_vouches_for_no_sealed_artifact_that_nobody_signed(secure_ml, run):
    secure_ml.put("/in/model.bin", b"model", signed_by=None)

    done = run(lambda: SignArtifactOperator(task_id="t", artifact="/in/model.bin"))

    assert refused(done) == (True, True)
    assert secure_ml.events[-1].why == "not_signed"


def test_sign_vouches_for_plain_data_as_it_lies_there(secure_ml, run):
    secure_ml.put("/in/table.csv", TABLE, sealed=False, signed_by=None)

    done = run(lambda: SignArtifactOperator(task_id="t", artifact="/in/table.csv"))

    assert done.error is None
    verified = run(lambda: VerifyArtifactOperator(task_id="v", artifact="/in/table.csv"))
    assert verified.returned["digest"] == done.returned["digest"]


def validating():
    return ValidateDatasetOperator(task_id="t", dataset="/in/a.csv", expect="ages.json")


def reading():
    @secure(reads={"table": Reads("/in/a.csv", expect="ages.json")})
    @task
    def read(table: Path) -> int:
        return len(table.read_text())

    read()


def test_validate_signs_that_it_passed_and_a_reader_takes_its_word(secure_ml, run):
    secure_ml.put("/in/a.csv", TABLE)

    done = run(validating)
    read = run(reading)

    assert done.returned["rows"] == 2
    assert read.returned == len(TABLE)
    validations = [e.more for e in secure_ml.events if e.act == "object.validate"]
    assert [more.get("trusted") for more in validations] == [None, True]


@pytest.mark.parametrize("step", [validating, reading], ids=["operator", "expect"])
def test_operator_and_expect_give_the_same_verdict(secure_ml, run, step):
    secure_ml.put("/in/a.csv", BAD_TABLE)

    done = run(step)

    assert refused(done) == (True, True)
    assert done.error.failed == ("expect_column_values_to_be_between(age)",)
    assert secure_ml.events[-1].why == "expectation_failed"


def test_validate_with_quarantine_sets_bad_rows_aside_and_signs_nothing(secure_ml, run):
    secure_ml.put("/in/a.csv", BAD_TABLE)

    done = run(
        lambda: ValidateDatasetOperator(
            task_id="t", dataset="/in/a.csv", expect="ages.json", quarantine="/bad/a.csv"
        )
    )

    assert done.error is None
    assert done.returned["rows"] == 1
    assert secure_ml.open("/bad/a.csv") == b"age,visits\n-7,0\n"
    assert secure_ml.open("/in/a.csv") == BAD_TABLE
    assert run(reading).refused


def test_a_constructor_reads_nothing():
    made = EncryptFileOperator(task_id="t", source="/nowhere/a", target="/nowhere/b", key="none")

    assert (made.source, made.target, made.key) == ("/nowhere/a", "/nowhere/b", "none")


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (EncryptFileOperator, {"source", "target", "key", "context"}),
        (DecryptFileOperator, {"source", "target", "signed_by"}),
        (SignArtifactOperator, {"artifact", "key"}),
        (VerifyArtifactOperator, {"artifact", "signed_by"}),
        (ValidateDatasetOperator, {"dataset", "expect", "quarantine"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_is_templated(cls, fields):
    assert set(cls.template_fields) == fields
