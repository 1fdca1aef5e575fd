"""What a guardian records of a task that cannot goes where the task's own events go."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_secure_ml.audit_ports import push_target
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import parse_settings
from tests.attacks.pushing import guard

pytestmark = pytest.mark.postgres


def test_a_guardian_hands_over_what_it_records(site, scratch):
    settings = dataclasses.replace(
        parse_settings({}),
        audit_spool="push",
        audit_inbox=site.place.address("trail_worker"),
        audit_inbox_passfile=site.place.passfile,
    )

    guard(scratch, site, settings)

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
