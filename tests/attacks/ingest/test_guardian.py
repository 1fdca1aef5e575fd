"""What a guardian records of a task that cannot goes over HTTP where that is chosen."""

from __future__ import annotations

import dataclasses

from airflow_secure_ml.settings import parse_settings
from tests.attacks.pushing import guard


def test_a_guardian_hands_over_what_it_records(site, server, token_path, scratch):
    settings = dataclasses.replace(
        parse_settings({}),
        audit_spool="push",
        audit_ingest_url=server.url,
        audit_ingest_token_path=token_path,
    )

    guard(scratch, site, settings)

    (shredded,) = site.events("scratch.shred")
    assert site.of(shredded["emitter"]) == [0, 1, 2]
    assert not (site.path / "audit").exists()
