"""A change of suite in a real bucket: a data set and a file, read by secured tasks afterwards."""

from __future__ import annotations

import json
import time

import pytest
from botocore.config import Config

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.core.crypto_policy import parse_crypto_policy
from airflow_secure_ml.services.crypto_usage import count_crypto
from airflow_secure_ml.services.governed_keys import GovernedKeys
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.resealing import Asked, reseal_artifact
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.signing import Demand
from airflow_secure_ml.testing.ports import MemoryAudit

pytestmark = pytest.mark.s3
TO_2 = parse_crypto_policy(json.dumps({"write": {"suites": ["cobblestone-256"]}}))
FILES = {"a.csv": "first a", "b/c.csv": "first c" * 300_000}


@pytest.fixture
def bench(bench, s3):
    client = s3.client(
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    )
    bench.__dict__["s3_objects"] = S3Objects(lambda bucket: client)
    return bench


def test_a_data_set_and_a_file_are_moved_and_read_by_tasks_as_before(bench, plan, s3):
    root = f"s3://{s3.new_bucket(versioned=True)}/lake"
    places = [f"{root}/day", f"{root}/note"]

    def write(bound):
        for name, text in FILES.items():
            path = bound["day"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        bound["note"].write_text("a note")

    outputs = [Output(name=uri.rpartition("/")[2], uri=uri) for uri in places]
    bench.run(plan(outputs=outputs, task_id="put"), write)
    keys, store = GovernedKeys(bench.keys, TO_2), bench.store(root)
    assert count_crypto(bench.store, [root], TO_2).suites == {"aes256-gcm-1mb": 3}

    for uri in places:
        done = reseal_artifact(
            store,
            Asked(uri=uri, key="data", anew=False, now_ms=time.time_ns() // 1_000_000),
            keys=keys,
            demand=Demand(verifiers=keys.verifiers(["pipeline"])),
            signer=keys.signer("pipeline"),
            trail=Journal(MemoryAudit(), None, lambda line: None),
        )
        assert done.suite == 2

    usage = count_crypto(bench.store, [root], TO_2)
    assert (usage.suites, usage.old) == ({"cobblestone-256": 3}, 0)
    seen = {}

    def read(bound):
        seen.update({name: (bound["day"] / name).read_text() for name in FILES})
        seen["note"] = bound["note"].read_text()

    inputs = [Input(name=uri.rpartition("/")[2], uri=uri) for uri in places]
    bench.run(plan(inputs=inputs, task_id="read"), read)
    assert seen == {**FILES, "note": "a note"}
    bench.run(plan(outputs=outputs, task_id="put"), write)
