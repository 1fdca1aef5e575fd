"""Leases: what was revoked, what is over by itself, and what may still be alive."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.lease_lives import lease_lives, life_of
from tests.plugin.generator import digest

ID = "sha256:" + "cd" * 32
GRANT = {
    "act": "lease.grant", "phase": "outcome", "result": "ok", "emitter": "ee", "seq": 3,
    "time": 1_000_000, "lease": {"path": "database/creds/x", "id": ID, "ttl_s": 900},
}  # fmt: skip


def then(act, after_s, result="ok", seq=9):
    return {
        "act": act, "phase": "outcome", "result": result, "emitter": "ee", "seq": seq,
        "time": 1_000_000 + after_s * 1000, "lease": {"path": "database/creds/x", "id": ID},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("events", "after_s", "state", "ends_s"),
    [
        ([then("lease.revoke", 60)], 100, "revoked", 60),
        ([], 100, "alive", 900),
        ([], 901, "expired", 900),
        ([then("lease.renew", 800)], 1000, "alive", 1700),
        ([then("lease.renew", 800, "failed")], 1000, "expired", 900),
        ([then("lease.revoke", 60, "failed")], 100, "alive", 900),
        ([then("lease.revoke", 90), then("lease.revoke", 60)], 100, "revoked", 60),
    ],
    ids=[
        "revoked", "not yet", "over", "renewed", "not renewed", "revoking failed", "revoked twice",
    ],
)  # fmt: skip
def test_a_lease_s_end(events, after_s, state, ends_s):
    life = life_of(GRANT, events, now_ms=1_000_000 + after_s * 1000)

    assert (life.state, life.ends_ms) == (state, 1_000_000 + ends_s * 1000)


def test_that_revoking_failed_is_told_with_its_event():
    life = life_of(GRANT, [then("lease.revoke", 60, "failed", seq=7)], now_ms=1_000_001)

    assert life.failed == "ee:7"


@pytest.mark.parametrize(
    ("lease", "state"),
    [
        ({"path": "p", "id": ID}, "endless"),
        ({"path": "p"}, "unnamed"),
        ({"path": "p", "id": ID, "ttl_s": "900"}, "endless"),
        ("text", "unnamed"),
    ],
    ids=["no time told", "no lease", "a time that is none", "no object"],
)
def test_what_is_not_told_is_not_made_up(lease, state):
    assert life_of({**GRANT, "lease": lease}, [], now_ms=0).state == state


def test_leases_are_found_with_their_ends(told):
    now = _tell(told, "d", 1, revoked_after_s=60)
    _tell(told, "d", 2)
    now = _tell(told, "d", 3, revoked_after_s=2 * 3600)
    store = told.store()

    found = lease_lives(store, EventQuery(), now_ms=now)

    assert [life.state for life in found.lives] == ["revoked", "expired", "revoked"]
    assert found.older_than is None


def test_an_end_outside_of_the_days_asked_for_counts(told):
    begin = told.story.clock.now
    now = _tell(told, "d", 1, revoked_after_s=5 * 3600)

    query = EventQuery(from_ms=begin, until_ms=begin + 3_600_000)
    found = lease_lives(told.store(), query, now_ms=now)

    assert [life.state for life in found.lives] == ["revoked"]


def test_pages_of_leases_go_on_where_the_last_ended(told):
    for number in range(5):
        now = _tell(told, "d", number)
    store = told.store()

    first = lease_lives(store, EventQuery(), now_ms=now, limit=3)
    second = lease_lives(store, EventQuery(), now_ms=now, limit=3, older_than=first.older_than)

    ids = [life.event["lease"]["id"] for life in (*first.lives, *second.lives)]
    assert ids == [digest(f"lease {number}") for number in (4, 3, 2, 1, 0)]
    assert second.older_than is None


def test_a_reader_of_some_dags_sees_their_leases_alone(told):
    _tell(told, "health", 1)
    now = _tell(told, "billing", 2)

    found = lease_lives(told.store(), EventQuery(dags=("billing",)), now_ms=now)

    assert [life.event["run"]["dag"] for life in found.lives] == ["billing"]


def _tell(told, dag, number, *, revoked_after_s=None):
    """A lease of 15 minutes; the clock afterwards, an hour on at least."""
    ref = RunRef(dag=dag, run="r", task="t", try_number=1, ti=f"ti-{number}")
    spool = told.story.spool("task", ref)
    lease = {"path": "database/creds/x", "id": digest(f"lease {number}")}
    granted = spool.record(
        Fact(act="lease.grant", phase="outcome", result="ok", lease={**lease, "ttl_s": 900})
    )
    if revoked_after_s is not None:
        told.story.clock.pass_ms(revoked_after_s * 1000)
        done = Fact(act="lease.revoke", phase="outcome", result="ok", of=granted, lease=lease)
        spool.record(done)
    spool.settle()
    spool.close()
    told.story.clock.pass_ms(3_600_000)
    return told.story.clock.now
