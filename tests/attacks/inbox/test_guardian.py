"""What a guardian records of a task that cannot goes where the task's own events go."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.scratch.making import make_scratch
from airflow_secure_ml.audit_ports import push_target
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import parse_settings

pytestmark = pytest.mark.postgres
DEADLINE_S = 60.0


@pytest.fixture
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    with make_scratch([folder], 1) as made:
        yield made
    shutil.rmtree(folder)


def test_a_guardian_hands_over_what_it_records(site, scratch):
    settings = dataclasses.replace(
        parse_settings({}),
        audit_spool="push",
        audit_inbox=site.place.address("trail_worker"),
        audit_inbox_passfile=site.place.passfile,
    )
    audit = GuardianAudit(audit_dir=site.path / "audit", push=push_target(settings))
    guardian = Guardian.start(scratch=[scratch.root], audit=audit)
    guardian.ready()

    guardian.finish()
    guardian.leave()

    deadline = time.monotonic() + DEADLINE_S
    site.start()
    while not site.events("emitter.close") and time.monotonic() < deadline:
        site.run()
        time.sleep(0.1)
    (shredded,) = site.events("scratch.shred")
    emitter = shredded["emitter"]
    assert site.of(emitter) == [0, 1, 2]
    assert site.founds(emitter)[0]["login"] == "trail_worker"
    assert not (site.path / "audit").exists()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"audit_inbox": "postgresql://w@127.0.0.1/t", "audit_ingest_url": "http://127.0.0.1/x"},
        {"audit_inbox": "postgresql://w@127.0.0.1/t", "audit_collector": "/run/c.sock"},
        {"audit_ingest_url": "http://127.0.0.1/secure-ml/ingest"},
    ],
    ids=["nowhere", "two places", "a collector too", "no token"],
)
def test_handing_over_without_one_clear_place_is_refused(options):
    with pytest.raises(ConfigurationError, match=r"audit_spool|audit_ingest_token_path"):
        push_target(parse_settings({"audit_spool": "push", **options}))
