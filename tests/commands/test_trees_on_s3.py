"""The console script against a real bucket, with nothing but a connection in the environment."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from tests.commands.test_trees import FILES, Mover


@pytest.fixture
def mover(s3, tmp_path):
    LocalKeyring(tmp_path / "secure_ml" / "keyring.json").init()
    init_log(tmp_path / "secure_ml" / "signer", "airflow")
    connection = {
        "conn_type": "aws",
        "login": s3.access_key,
        "password": s3.secret_key,
        "extra": {"endpoint_url": s3.url, "verify": str(s3.ca), "region_name": "us-east-1"},
    }
    mover = Mover(tmp_path, AIRFLOW_CONN_LAKE=json.dumps(connection))
    mover.environment["AIRFLOW__SECURE_ML__AWS_CONN_ID"] = "lake"
    mover.secret = s3.secret_key
    mover.bucket = f"s3://{s3.new_bucket(versioned=True)}"
    mover.write(FILES)
    yield mover
    stop_sequencer(tmp_path / "secure_ml" / "audit")


def test_a_folder_goes_to_a_bucket_and_back(mover):
    lake = f"{mover.bucket}/lake/visits"

    assert mover.done("seal", "--recursive", "plain", lake)["done"] == 3
    assert mover.done("seal", "--recursive", "plain", lake)["skipped"] == 3
    assert mover.done("verify", lake)["signers"] == ["pipeline/1"]
    seen = mover.done("inspect", lake)
    assert (seen["sealed"], seen["signed"], seen["data_set_keys"]) == (3, 3, 1)
    assert mover.done("open", "--recursive", lake, "back")["done"] == 3

    assert mover.tree("back") == FILES


def test_one_file_of_a_bucket_is_sealed_opened_rewrapped_and_signed(mover):
    at = f"{mover.bucket}/one.sealed"
    mover.done("seal", "plain/a.csv", at)
    mover.done("sign", at)
    mover.done("keys", "rotate", "data")

    mover.done("rewrap", at, "--key", "data")

    assert mover.slots(at) == ["data/2"]
    mover.done("verify", at)
    mover.done("open", at, "one", "--context", f"object={at}")
    assert (mover.path / "one").read_bytes() == FILES["a.csv"]


def test_a_bucket_that_is_not_there_is_a_message_and_no_secret_shows(mover):
    answer = mover.run("seal", "--recursive", "plain", "s3://not-there-at-all/x", "--json")

    assert answer.returncode in (2, 3)
    assert "not-there-at-all" in json.loads(answer.stderr)["message"]
    assert mover.secret not in answer.stdout + answer.stderr
