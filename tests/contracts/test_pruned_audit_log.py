"""What pruning may be relied on for, whatever store the log lies in."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditWriter
from airflow_secure_ml.adapters.postgres_audit import writer as postgres_writer
from airflow_secure_ml.adapters.sqlite_audit import writer as sqlite_writer
from airflow_secure_ml.core.audit.frame import ASIDE, encode_frame
from airflow_secure_ml.core.audit.pruning import Hold
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.pruning import hold_log, prune_log
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.contracts.audit_stores import PostgresStore, Site, SqliteStore
from tests.services.audit.conftest import ALICE, BOB, chain, event

CAROL = "c7" * 16


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


def hidden(value, number):
    salt = bytes([number]) * 16
    return Aside(h=hidden_hash(value, salt), salt=salt.hex(), value=value)


GOES, STAYS, BOTH, DEEP, NEVER = (hidden(f"person {n}", n) for n in range(1, 6))


def saying(emitter, *asides):
    """An emitter's events that name people, one in a list, and what lies behind that."""
    events = [event(emitter, 0, None, "emitter.open")]
    for aside in asides:
        named = {"h": aside.h, "n": len(aside.value)}
        fields = {"more": {"reads": [named]}} if aside is DEEP else {"by": named}
        events.append(event(emitter, len(events), events[-1], "trail.view", **fields))
    tail = b"".join(encode_frame(ASIDE, aside.encode()) for aside in (*asides, NEVER))
    return events, tail


@pytest.fixture
def people(site):
    """People are named by leaves between 768 and 1024, and by others between 1024 and 1280."""
    for emitter, asides in (("c0" * 16, (GOES, BOTH, DEEP)), ("d0" * 16, (STAYS, BOTH))):
        events, tail = saying(emitter, *asides)
        site.put(emitter, 0, events, tail=tail)
        site.run()
        site.put(f"e{emitter[1:]}", 0, chain(f"e{emitter[1:]}", 300))
        site.run()
    return site


def revealed(site):
    return {aside.value: site.reader().reveal(aside.h) for aside in (GOES, STAYS, BOTH, DEEP)}


def test_values_whose_last_leaf_goes_go_with_it(people):
    prune(people, 1024)

    assert revealed(people) == {
        GOES.value: None,
        DEEP.value: None,
        STAYS.value: STAYS.value,
        BOTH.value: BOTH.value,
    }
    # Which came with a leaf and is named by none: it may be of one that is yet to come.
    assert people.reader().reveal(NEVER.h) == NEVER.value
    assert people.verify().status == WHOLE


def test_values_stay_as_long_as_their_leaves(people):
    prune(people, 768)

    assert all(revealed(people).values())


def test_a_hold_keeps_values_too(people):
    people.close()
    people.opened.clear()
    people.start()
    at = people.reader().find(f"{'c0' * 16}:1").index
    hold = Hold(name="case 7", from_index=at, because="a court asks")
    hold_log(people.sequencer, people.checkpointer, people.log, hold)

    with pytest.raises(ConfigurationError, match="hold 'case 7' keeps"):
        prune(people, 1024)

    assert all(revealed(people).values())


def steps_that_break_off(first, below):
    """A tile at a time, and not the last one."""
    yield from range(first + 256, below, 256)
    if first < below:
        raise KeyboardInterrupt


def test_a_pruning_that_breaks_off_leaves_each_value_with_its_leaf(people, monkeypatch):
    with monkeypatch.context() as patched:
        for module in (sqlite_writer, postgres_writer):
            patched.setattr(module, "prune_steps", steps_that_break_off)
        with pytest.raises(KeyboardInterrupt):
            prune(people, 1280)
    broken_off = revealed(people)

    prune(people, 1280)

    assert {value for value, found in broken_off.items() if found} == {STAYS.value, BOTH.value}
    assert not any(revealed(people).values())
    assert people.verify().status == WHOLE


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_values_bytes_do_not_stay_in_the_file(people):
    files = [people.store.path, people.store.path.with_name("trail.db-wal")]
    assert any(GOES.value.encode() in path.read_bytes() for path in files)

    prune(people, 1024)
    people.close()
    people.opened.clear()

    assert not any(GOES.value.encode() in path.read_bytes() for path in files if path.exists())


def test_nothing_goes_whose_hash_would_go_with_it(site):
    site.close()
    site.store.edit("DELETE FROM tile WHERE level = 0 AND n = ?", 1)

    with site.store.writer(site.origin) as log, pytest.raises(AuditLogError):
        log.prune(512)

    with site.reader().whole() as log:
        assert next(iter(log.leaves()))[0] == 0


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


@pytest.fixture
def holed(site):
    """CAROL's event 5 never came; of her first leaves some are pruned."""
    site.carol = chain(CAROL, 600)
    site.put(CAROL, 0, [data for seq, data in enumerate(site.carol) if seq != 5])
    site.run()
    site.times.advance(60_000)
    site.run()
    assert site.ends(CAROL) == ["found", "gap"]
    site.first = site.reader().find(f"{CAROL}:0").index
    prune(site, 1280)
    assert site.first < 1280 < site.reader().find(f"{CAROL}:599").index
    site.close()
    site.opened.clear()
    site.start()
    return site


@pytest.mark.parametrize("seq", [0, 5, 100, 600], ids="event {}".format)
def test_what_was_pruned_of_an_emitter_with_a_gap_does_not_come_back(holed, seq):
    before = holed.of(CAROL)
    data = (*holed.carol, event(CAROL, 600, holed.carol[599]))[seq]

    holed.put(CAROL, 0, [data])
    holed.run()

    assert holed.of(CAROL) == before
    [refused] = holed.events("trail.refused")
    assert refused["more"]["because"] == "what its emitter said first was pruned"
    assert holed.verify().status == WHOLE


def test_what_is_there_of_an_emitter_with_a_gap_is_dropped_as_before(holed):
    before = holed.of(CAROL)

    holed.put(CAROL, 0, holed.carol[590:])
    holed.run()

    assert holed.of(CAROL) == before
    assert holed.events("trail.refused") == []


def test_the_leaf_that_says_where_an_emitter_was_found_is_looked_up(site):
    more = json.loads(site.log.found(BOB))["more"]

    assert (more["emitter"], more["state"]) == (BOB, "found")
    assert site.log.found("f0" * 16) is None


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
