"""What a guardian records of a task that cannot goes over HTTP where that is chosen."""

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
from airflow_secure_ml.settings import parse_settings

DEADLINE_S = 60.0


@pytest.fixture
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    with make_scratch([folder], 1) as made:
        yield made
    shutil.rmtree(folder)


def test_a_guardian_hands_over_what_it_records(site, server, token_path, scratch):
    settings = dataclasses.replace(
        parse_settings({}),
        audit_spool="push",
        audit_ingest_url=server.url,
        audit_ingest_token_path=token_path,
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
    assert site.of(shredded["emitter"]) == [0, 1, 2]
    assert not (site.path / "audit").exists()
