"""What pruning may be relied on for, whatever store the log lies in."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditWriter
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.pruning import prune_log
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.contracts.audit_stores import PostgresStore, Site, SqliteStore
from tests.services.audit.conftest import ALICE, BOB, chain


class OwnersStore(PostgresStore):
    """A log in a database, written by whoever owns its tables."""

    def writer(self, origin):
        return PostgresAuditWriter(self.place.login("trail_owner"), origin)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def site(request, tmp_path):
    if request.param == "sqlite":
        store = SqliteStore(tmp_path)
    else:
        store = OwnersStore(request.getfixturevalue("trail_place"))
    made = Site(tmp_path, store)
    made.put(ALICE, 0, chain(ALICE, 600))
    made.run()
    made.put(BOB, 0, chain(BOB, 300))
    made.run()
    yield made
    made.close()


def prune(site, below):
    site.close()
    site.opened.clear()
    site.start()
    prune_log(site.sequencer, site.checkpointer, site.log, below, because="it is old")


def test_a_pruned_log_is_whole_and_goes_on(site):
    kept = prove(site.reader(), 100)
    hashes = list(site.reader().leaf_hashes(500, 520))

    prune(site, 512)
    prune(site, 768)

    assert site.verify().status == WHOLE
    assert list(site.reader().leaf_hashes(500, 520)) == hashes
    assert site.reader().leaf(767) is None
    assert site.reader().leaf(768).index == 768
    assert check_proof(kept, [site.signer.public]).origin == site.origin
    site.close()
    site.opened.clear()
    site.start()
    site.put("c0" * 16, 0, chain("c0" * 16, 300))
    site.run()
    report = site.verify()
    assert (report.status, report.problem, report.pruned_below) == (WHOLE, "", 768)


def test_rows_that_go_without_a_word_are_tampering(site):
    site.close()
    site.store.edit("DELETE FROM leaf WHERE idx < ?", 256)

    assert (site.verify().status, site.verify().first_bad) == (TAMPERED, 0)


def test_an_event_that_was_pruned_does_not_come_back(site):
    prune(site, 768)
    site.close()
    site.opened.clear()
    site.start()

    site.put(ALICE, 0, chain(ALICE, 600))
    site.run()

    assert site.of(ALICE) == []
    assert site.verify().status == WHOLE


@pytest.mark.postgres
def test_the_sequencers_login_may_not_prune(trail_place, tmp_path):
    site = Site(tmp_path, PostgresStore(trail_place))
    site.put(ALICE, 0, chain(ALICE, 600))
    site.run()

    with pytest.raises(ConfigurationError, match="as the owner of its tables"):
        prune(site, 256)

    assert site.events("trail.prune") == []
    assert site.reader().leaf(0) is not None
    site.close()
