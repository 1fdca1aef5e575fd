"""What a log's readers, its writer and its verifier may rely on, whatever store it lies in."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading

import pytest

from airflow_secure_ml.core.audit.ports import Batch, EmitterRow
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.verifying import INCOMPLETE, TAMPERED, WHOLE
from tests.contracts.audit_stores import (
    EMITTER,
    LEAVES,
    ORIGIN,
    Site,
    append,
    leaf,
)
from tests.services.audit.conftest import ALICE, BOB, chain

SALT = bytes(range(16))


@pytest.fixture
def reader(trail_log, trail_store):
    return trail_store.reader()


@pytest.fixture
def site(trail_store, tmp_path):
    made = Site(tmp_path, trail_store)
    yield made
    made.close()


def indices(found):
    return [each.index for each in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [5, 4, 2, 1, 0, 3]),
        ({"dags": ("sales",)}, [5, 4]),
        ({"dags": ()}, []),
        ({"dags": ("churn", "sales")}, [5, 4, 2, 1, 3]),
        ({"dag": "churn", "run": "churn-run", "task": "train"}, [2, 1, 3]),
        ({"ti": "ti-0"}, [4, 2]),
        ({"acts": ("object.",)}, [2, 1, 3]),
        ({"acts": ("lease.grant", "object.seal")}, [4, 3]),
        ({"results": ("intent", "refused")}, [2, 1]),
        ({"uri": "file:///a_b"}, [2]),
        ({"key": "data"}, [3]),
        ({"emitter": EMITTER, "from_ms": 1000, "until_ms": 3_600_001}, [4, 2, 1, 0]),
        ({"text": "a_b"}, [2]),
        ({"text": "a%b"}, [1]),
        ({"text": 'said "Nö"'}, [5]),
        ({"text": "SAID"}, [5]),
        ({"text": "nö"}, [5]),
        ({"text": "NÖ"}, []),
        ({"above_index": 3}, [5, 4]),
        ({"dag": "' OR 1=1 --"}, []),
        ({"dag": "churn\0"}, []),
        ({"dag": "churn", "text": "\0"}, []),
        ({"dag": "x" * 400}, []),
        ({"from_ms": -(2**62), "above_index": -1}, [5, 4, 2, 1, 0, 3]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_filter_finds_exactly_what_fits(reader, query, expected):
    found = reader.page(EventQuery(**query))

    assert indices(found) == expected
    assert reader.count(EventQuery(**query), at_most=99) == len(expected)
    assert len(reader.kinds(EventQuery(**query), limit=99)) == len(expected)


def test_kinds_are_those_of_the_newest(reader):
    assert reader.kinds(EventQuery(dag="churn"), limit=2) == [
        ("object.open", "refused"),
        ("object.open", "intent"),
    ]


def test_kinds_are_counted_and_no_further_than_asked(reader):
    assert reader.kind_counts(EventQuery(), at_most=100) == {
        ("emitter.open", "ok"): 1,
        ("object.open", "intent"): 1,
        ("object.open", "refused"): 1,
        ("object.seal", "ok"): 1,
        ("lease.grant", "ok"): 1,
        ("objects", "ok"): 1,
    }
    assert reader.kind_counts(EventQuery(), at_most=2) == {
        ("objects", "ok"): 1,
        ("lease.grant", "ok"): 1,
    }
    assert reader.kind_counts(EventQuery(dag="none"), at_most=9) == {}


def test_paging_shows_every_leaf_once_though_times_are_equal(reader):
    shown, bound = [], None
    for _ in range(10):
        page = reader.page(EventQuery(), older_than=bound, limit=2)
        if not page:
            break
        shown += indices(page)
        bound = (page[-1].event["time"], page[-1].index)

    assert shown == [5, 4, 2, 1, 0, 3]


def test_paging_back_gives_the_nearest_newer_leaves(reader):
    page = reader.page(EventQuery(), newer_than=(1000, 0), limit=2)

    assert indices(page) == [2, 1]


def test_counting_stops_where_it_is_told_to(reader):
    assert reader.count(EventQuery(), at_most=4) == 4


def test_a_leaf_is_found_by_its_index_and_by_its_name(reader):
    found = reader.find(f"{EMITTER}:3")

    assert found == reader.leaf(3)
    assert (found.data, found.hash) == (LEAVES[3].data, LEAVES[3].hash)
    assert reader.find(f"{EMITTER}:99") is reader.leaf(99) is None
    for name in ("", "x", f"{EMITTER}:", f"{EMITTER}:-1", f"{EMITTER}:{'9' * 40}", "\0:1"):
        assert reader.find(name) is None


def test_a_reader_sees_what_the_writer_adds(reader, trail_log):
    assert (reader.origin(), reader.size(), reader.checkpoint()) == (ORIGIN, 6, None)

    append(trail_log, [leaf(6, time=5000)])
    trail_log.publish("note of 6", size=6, signed_ms=1)
    trail_log.publish("note of 7", size=7, signed_ms=2)
    trail_log.publish("second note of 7", size=7, signed_ms=3)

    assert reader.size() == 7
    assert reader.leaf_hashes(5, 99) == (LEAVES[5].hash, leaf(6, time=5000).hash)
    assert reader.checkpoint() == "second note of 7"
    assert reader.checkpoint(at_most=6) == "note of 6"
    assert reader.checkpoint(at_most=5) is None


def test_a_reader_works_when_the_writer_is_gone_and_cannot_write(trail_log, reader, trail_store):
    trail_log.close()

    assert reader.size() == 6
    with reader.whole() as whole, pytest.raises(Exception, match=r"readonly|read-only|denied"):
        whole._connection.execute(f"DELETE FROM {trail_store.leaves}")


def test_a_view_of_the_whole_does_not_change_while_it_is_read(reader, trail_log):
    with reader.whole() as whole:
        before = whole.edge().size
        append(trail_log, [leaf(6, time=5000)])

        assert len(list(whole.leaves())) == before == whole.edge().size == 6
    assert reader.size() == 7


def test_threads_may_ask_one_reader_at_once(reader):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(indices(reader.page(EventQuery()))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [[5, 4, 2, 1, 0, 3]] * 8


def test_a_batch_on_another_size_is_refused(trail_log):
    old = trail_log.edge()
    append(trail_log, [leaf(6, time=5000)])
    late = leaf(7, time=5001)

    with pytest.raises(AuditLogError, match="two sequencers"):
        trail_log.append(Batch(old_size=old.size, leaves=[late], edge=old.append([late.hash])))
    assert trail_log.edge().size == 7


def test_a_batch_with_a_name_that_is_taken_leaves_nothing_behind(trail_log, reader):
    with pytest.raises(AuditLogError, match=r"(?i)unique"):
        append(trail_log, [leaf(6, time=5000), leaf(2, time=5001)])

    assert reader.size() == trail_log.edge().size == 6
    assert reader.leaf(6) is None


def test_rows_and_hidden_values_come_with_the_leaves(trail_log, reader):
    row = EmitterRow(id=EMITTER, next_seq=7, last=b"x" * 32, part=2, at=99, first_ms=1, last_ms=2)
    h = hidden_hash("Ada", b"\x01" * 16)
    aside = Aside(h=h, salt="01" * 16, value="Ada")

    append(trail_log, [leaf(6, time=5000)], emitters=[row], asides=[aside])
    append(trail_log, [], emitters=[row], asides=[aside])

    assert trail_log.emitters(["live", "gap"]) == (row,)
    assert trail_log.emitters(["gap"]) == ()
    assert (trail_log.emitter(EMITTER), trail_log.emitter("00" * 16)) == (row, None)
    assert (trail_log.event_hash(EMITTER, 2), trail_log.event_count(EMITTER)) == (LEAVES[2].hash, 7)
    assert (trail_log.event_hash(EMITTER, 99), trail_log.event_count("cd" * 16)) == (None, 0)
    assert reader.reveal(h) == "Ada"
    assert reader.aside(h) == aside
    assert reader.reveal("1f" * 32) is None
    assert reader.reveal("\0'") is None


def test_an_event_is_found_by_its_name_in_the_whole_view(trail_log, reader):
    with reader.whole() as whole:
        assert whole.event(EMITTER, 2) == (2, LEAVES[2].data)
        assert whole.event(EMITTER, 99) is None
        assert whole.event("00" * 16, 0) is None
        assert whole.emitters(["live"]) == ()


def test_bytes_that_were_refused_are_known_again(trail_log):
    refused = leaf(6, time=1, act="trail.refused", dag=None, more={"hash": "ab" * 32})
    other = leaf(7, time=1, act="trail.emitter", dag=None, more={"hash": "cd" * 32})

    append(trail_log, [refused, other])

    assert trail_log.has_refused("ab" * 32)
    assert not trail_log.has_refused("cd" * 32)


def test_the_writer_reads_back_what_it_wrote(trail_log):
    assert list(trail_log.leaf_data(1, 4)) == [each.data for each in LEAVES[1:4]]
    assert list(trail_log.leaf_data(4, 4)) == []
    assert trail_log.leaf_hashes(4, 6) == (LEAVES[4].hash, LEAVES[5].hash)
    assert trail_log.tile(0, 0) is None
    assert trail_log.origin() == ORIGIN


def test_a_full_tile_is_kept(trail_log, reader):
    tiles = {(0, 0): bytes(8192)}

    append(trail_log, [leaf(6, time=1)], tiles=tiles)

    assert trail_log.tile(0, 0) == reader.tile(0, 0) == bytes(8192)
    with reader.whole() as whole:
        assert list(whole.tiles()) == [(0, 0)]


def test_a_log_of_another_name_is_refused(trail_log, trail_store):
    trail_log.close()

    with pytest.raises(AuditLogError, match="the signer is for"):
        trail_store.writer("example.org/asml-trail/ffffffff")


def test_a_log_that_nobody_has_made_yet_is_named(trail_store):
    with pytest.raises(ConfigurationError, match="the sequencer"):
        trail_store.reader().size()


def test_every_leaf_is_read_as_it_was_written(reader):
    with reader.whole() as whole:
        found = list(whole.leaves())

    assert found == [
        (n, each.data, each.hash) for n, each in zip(itertools.count(), LEAVES, strict=False)
    ]


def test_names_of_any_length_neither_stop_the_log_nor_mix_up(trail_log, reader):
    """A task may write them: an index that takes no such entry would stop every other's events."""
    long = "ä" * 3000
    append(
        trail_log,
        [
            leaf(6, time=6, dag=long + "1", object={"uri": long + "1"}, key={"name": long}),
            leaf(7, time=7, dag=long + "2", object={"uri": long + "2"}),
            leaf(8, time=8, dag=long[:300], object={"uri": long[:299]}),
        ],
    )

    assert indices(reader.page(EventQuery(uri=long + "1"))) == [6]
    assert indices(reader.page(EventQuery(uri=long + "2", dag=long + "2"))) == [7]
    assert indices(reader.page(EventQuery(uri=long[:299]))) == [8]
    assert indices(reader.page(EventQuery(dags=(long[:300], "sales")))) == [5, 4, 8]
    assert indices(reader.page(EventQuery(dags=(long + "1",)))) == [6]


def test_numbers_at_their_limits_are_found(trail_log, reader):
    most = 2**53 - 1
    append(trail_log, [leaf(6, time=most), leaf(7, time=-most), leaf(most, time=5)])

    assert indices(reader.page(EventQuery(from_ms=most))) == [6]
    assert indices(reader.page(EventQuery(until_ms=0))) == [7]
    assert reader.find(f"{EMITTER}:{most}").index == 8


def test_a_question_that_takes_too_long_is_ended(trail_log, trail_store):
    reader = trail_store.reader(query_s=0.001)
    append(trail_log, [leaf(n, time=n, more={"because": "x" * 900}) for n in range(6, 3000)])
    query = EventQuery(text="%".join("abcdefgh"))

    with pytest.raises(ServiceUnavailableError, match="ask for less"):
        reader.page(query)


# What follows goes through the whole of it: spool, sequencer, signer, proofs, verifier.


def signed(site, *, count=300):
    site.put(ALICE, 0, chain(ALICE, count, run={"dag": "churn"}))
    site.put(BOB, 0, chain(BOB, 5))
    site.run()
    return site


def test_a_log_is_sequenced_signed_proved_and_whole(site):
    signed(site)

    report = site.verify()

    assert (report.status, report.problem, report.ends) == (WHOLE, "", {"whole": 2})
    assert report.size == report.signed_size > 305
    reader = site.reader()
    proof = prove(reader, 7)
    assert check_proof(proof, [site.signer.public]) is not None


def test_another_sequencer_goes_on_where_the_first_one_ended(site):
    site.put(ALICE, 0, chain(ALICE, 20, is_closed=False))
    site.run()
    site.log.close()
    site.put(BOB, 0, chain(BOB, 20))

    site.start()
    site.run()

    assert site.of(ALICE) == site.of(BOB) == list(range(20))
    assert site.verify().status == WHOLE


class Unanswered:
    """A log whose batches stand, although nobody is told so, and that is then gone for a while."""

    def __init__(self, log):
        self.log, self.silent = log, 0

    def append(self, batch):
        self.log.append(batch)
        if self.silent:
            raise ServiceUnavailableError("no answer")

    def emitters(self, states=()):
        if self.silent:
            self.silent -= 1
            raise ServiceUnavailableError("still gone")
        return self.log.emitters(states)

    def __getattr__(self, name):
        return getattr(self.log, name)


def test_a_batch_whose_confirmation_was_lost_is_neither_lost_nor_there_twice(site, trail_store):
    log = Unanswered(trail_store.writer(site.origin))
    site.put(ALICE, 0, chain(ALICE, 20))
    site.start(log=log)
    log.silent = 2

    for _ in range(3):
        with pytest.raises(ServiceUnavailableError):
            site.sequencer.step()
    site.run()

    assert site.of(ALICE) == list(range(20))
    assert site.verify().status == WHOLE


def test_a_gap_is_told_from_tampering(site):
    events = chain(ALICE, 10)
    site.put(ALICE, 0, [*events[:4], *events[6:]])
    site.run()
    site.times.advance(60_000)
    site.run()

    assert site.verify().status == INCOMPLETE


LATER = json.dumps({"v": 1}).encode()
HOSTILE = {
    "empty": b"",
    "not json": b"x" * 50,
    "not utf-8": b'{"act":"\xff\xfe"}',
    "half a text": b'{"act":"object.open',
    "u+0000": b'{"act":"\\u0000"}',
    "a lone surrogate": b'{"act":"\\ud800"}',
    "a number": b"7",
    "null": b"null",
    "a huge integer": b'{"seq":' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"seq":1e999999}',
    "nested deeply": b"[" * 20_000 + b"]" * 20_000,
    "a key twice": b'{"act":"x","act":"object.open"}',
    "unsorted": b'{"seq":1,"act":"object.open"}',
    "another version": LATER,
}


@pytest.mark.parametrize("with_hash", [False, True], ids=["hash kept", "hash computed"])
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_stands_in_a_leaf_the_verifier_names_it(site, trail_store, data, with_hash):
    signed(site, count=20)
    site.log.close()

    trail_store.put_bytes(7, data, leaf_hash(data) if with_hash else None)

    report = site.verify()
    assert (report.status, report.first_bad) == (TAMPERED, 7)
    # A page may say that it cannot show this; it may not fall over.
    for ask in (lambda r: r.page(EventQuery()), lambda r: r.leaf(7), lambda r: r.leaf_hashes(0, 9)):
        with contextlib.suppress(SecureMLError):
            ask(site.reader())


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM leaf WHERE idx = 7", "leaf 7"),
        ("DELETE FROM leaf WHERE idx > 7", "is missing"),
        ("UPDATE leaf SET idx = 999 WHERE idx = 7", "leaf 7"),
        ("UPDATE leaf SET hash = (SELECT hash FROM leaf WHERE idx = 3) WHERE idx = 7", "leaf 7"),
        ("DELETE FROM log", "rows in table log"),
        ("UPDATE log SET size = size - 1", "edge"),
        ("UPDATE log SET size = -1", "edge"),
        ("UPDATE log SET origin = 'example.org/other'", "checkpoint"),
        ("DELETE FROM tile", "tile"),
        ("INSERT INTO tile SELECT 5, 5, hashes FROM tile", "tile"),
        ("UPDATE checkpoint SET note = 'x'", "checkpoint over"),
        ("UPDATE checkpoint SET size = 3", "checkpoint over 3"),
    ],
)
def test_whoever_edits_the_store_is_noticed(site, trail_store, statement, problem):
    signed(site)
    site.log.close()
    last = site.reader().checkpoint()

    trail_store.edit(statement)

    report = site.verify(signed_last=last)
    assert report.status == TAMPERED
    assert problem in report.problem


def test_a_value_aside_that_was_exchanged_is_noticed(site, trail_store):
    signed(site, count=5)
    h = hidden_hash("alice", SALT)
    trail_store.edit("INSERT INTO aside(h, salt, value) VALUES (?, ?, ?)", h, SALT, "alice")
    assert site.verify().status == WHOLE

    trail_store.edit("UPDATE aside SET value = ?", "bob")

    report = site.verify()
    assert report.status == TAMPERED
    assert "aside" in report.problem
    assert "bob" not in report.problem
    with pytest.raises(AuditLogError, match="does not give"):
        site.reader().reveal(h)


def test_a_value_aside_that_was_erased_is_no_fault(site, trail_store):
    signed(site, count=5)
    h = hidden_hash("alice", SALT)
    trail_store.edit("INSERT INTO aside(h, salt, value) VALUES (?, ?, ?)", h, SALT, "alice")

    trail_store.edit("UPDATE aside SET salt = NULL, value = NULL")

    assert site.reader().reveal(h) is None
    assert site.verify().status == WHOLE
