"""Pages, filters and single leaves of a log, read beside its writer."""

from __future__ import annotations

import itertools
import sqlite3

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.ports import Batch, EmitterRow, NewLeaf
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError

ORIGIN = "example.org/asml-trail/00010203"
EMITTER = "ab" * 16


def leaf(seq, *, time, act="object.open", result="ok", dag="churn", **fields):
    record = {"v": 1, "emitter": EMITTER, "seq": seq, "time": time, "mono": seq, "act": act}
    record |= {"phase": "seen" if result else "intent", **fields}
    if result:
        record["result"] = result
    if dag:
        record["run"] = {"dag": dag, "run": f"{dag}-run", "task": "train", "ti": f"ti-{seq % 2}"}
    data = canonical.encode(record)
    return NewLeaf(data=data, hash=leaf_hash(data), event=record)


LEAVES = [
    leaf(0, time=1000, act="emitter.open", dag=None),
    leaf(1, time=1000, result=None, object={"uri": "file:///a%b"}),
    leaf(2, time=1000, result="refused", why="digest_differs", object={"uri": "file:///a_b"}),
    leaf(3, time=900, act="object.seal", key={"name": "data"}),
    leaf(4, time=3_600_000, act="lease.grant", dag="sales", lease={"id": "sha256:" + "cd" * 32}),
    leaf(5, time=3_600_001, act="objects", dag="sales", more={"because": 'he said "no"'}),
]


@pytest.fixture
def log(tmp_path):
    with SqliteAuditWriter(tmp_path / "trail.db", ORIGIN) as writer:
        append(writer, LEAVES)
        yield writer


@pytest.fixture
def reader(log, tmp_path):
    return SqliteAuditReader(tmp_path / "trail.db")


def append(writer, leaves, **more):
    old = writer.edge()
    writer.append(
        Batch(old_size=old.size, leaves=leaves, edge=old.append(x.hash for x in leaves), **more)
    )


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
        ({"text": 'said "no"'}, [5]),
        ({"above_index": 3}, [5, 4]),
        ({"dag": "' OR 1=1 --"}, []),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_filter_finds_exactly_what_fits(reader, query, expected):
    found = reader.page(EventQuery(**query))

    assert indices(found) == expected
    assert reader.count(EventQuery(**query), at_most=99) == len(expected)


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
    for name in ("", "x", f"{EMITTER}:", f"{EMITTER}:-1", f"{EMITTER}:{'9' * 40}"):
        assert reader.find(name) is None


def test_a_reader_sees_what_the_writer_adds(reader, log):
    assert (reader.origin(), reader.size(), reader.checkpoint()) == (ORIGIN, 6, None)

    append(log, [leaf(6, time=5000)])
    log.publish("note of 6", size=6, signed_ms=1)
    log.publish("note of 7", size=7, signed_ms=2)

    assert reader.size() == 7
    assert reader.leaf_hashes(5, 99) == (LEAVES[5].hash, leaf(6, time=5000).hash)
    assert reader.checkpoint() == "note of 7"
    assert reader.checkpoint(at_most=6) == "note of 6"
    assert reader.checkpoint(at_most=5) is None


def test_a_reader_works_when_the_writer_is_gone_and_cannot_write(log, reader, tmp_path):
    log.close()

    assert reader.size() == 6
    with reader.whole() as whole, pytest.raises(sqlite3.OperationalError, match="readonly"):
        whole._connection.execute("DELETE FROM leaf")


def test_a_view_of_the_whole_does_not_change_while_it_is_read(reader, log):
    with reader.whole() as whole:
        before = whole.edge().size
        append(log, [leaf(6, time=5000)])

        assert len(list(whole.leaves())) == before == whole.edge().size == 6
    assert reader.size() == 7


def test_a_batch_on_another_size_is_refused(log):
    old = log.edge()
    append(log, [leaf(6, time=5000)])
    late = leaf(7, time=5001)

    with pytest.raises(AuditLogError, match="two sequencers"):
        log.append(Batch(old_size=old.size, leaves=[late], edge=old.append([late.hash])))
    assert log.edge().size == 7


def test_a_batch_with_a_name_that_is_taken_leaves_nothing_behind(log, reader):
    with pytest.raises(AuditLogError, match="UNIQUE"):
        append(log, [leaf(6, time=5000), leaf(2, time=5001)])

    assert reader.size() == log.edge().size == 6
    assert reader.leaf(6) is None


def test_rows_hidden_values_and_the_tally_come_with_the_leaves(log, reader, tmp_path):
    row = EmitterRow(id=EMITTER, next_seq=7, last=b"x" * 32, part=2, at=99, first_ms=1, last_ms=2)
    h = hidden_hash("Ada", b"\x01" * 16)
    aside = Aside(h=h, salt="01" * 16, value="Ada")

    append(log, [leaf(6, time=5000)], emitters=[row], asides=[aside])

    assert log.emitters(["live", "gap"]) == (row,)
    assert log.emitters(["gap"]) == ()
    assert (log.emitter(EMITTER), log.emitter("00" * 16)) == (row, None)
    assert (log.event_hash(EMITTER, 2), log.event_count(EMITTER)) == (LEAVES[2].hash, 7)
    assert reader.reveal(h) == "Ada"
    assert reader.reveal("1f" * 32) is None
    connection = sqlite3.connect(tmp_path / "trail.db")
    rows = connection.execute("SELECT hour, result, n FROM tally ORDER BY hour, result").fetchall()
    connection.close()
    assert rows == [(0, "intent", 1), (0, "ok", 3), (0, "refused", 1), (1, "ok", 2)]


def test_a_log_of_another_name_is_refused(log, tmp_path):
    log.close()

    with pytest.raises(AuditLogError, match="the signer is for"):
        SqliteAuditWriter(tmp_path / "trail.db", "example.org/asml-trail/ffffffff")


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"trail\.db: no such file"):
        SqliteAuditReader(tmp_path / "trail.db").size()


def test_a_leaf_that_is_not_json_is_named(log, reader, tmp_path):
    log.close()
    path = tmp_path / "trail.db"
    path.write_bytes(path.read_bytes().replace(b'"object.seal"', b'"object.seal}'))

    with pytest.raises(AuditLogError) as caught:
        reader.leaf(3)
    assert caught.value.index == 3


def test_the_file_is_for_its_owner_alone(log, tmp_path):
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    assert modes == {"trail.db": 0o600, "trail.db-wal": 0o600, "trail.db-shm": 0o600}


def test_pages_use_an_index(tmp_path, log):
    connection = sqlite3.connect(tmp_path / "trail.db")
    plans = [
        " ".join(
            row[3]
            for row in connection.execute(
                f"EXPLAIN QUERY PLAN SELECT idx FROM leaf WHERE {condition} "
                "ORDER BY time DESC, idx DESC LIMIT 50"
            )
        )
        for condition in ("1", "dag = 'a'", "ti = 'a'", "uri = 'a'", "act = 'a'")
    ]
    connection.close()

    assert [plan.partition("INDEX ")[2].split()[0] for plan in plans] == [
        "leaf_time",
        "leaf_dag",
        "leaf_ti",
        "leaf_uri",
        "leaf_act",
    ]


def test_every_leaf_is_read_as_it_was_written(reader):
    with reader.whole() as whole:
        found = list(whole.leaves())

    assert found == [
        (n, each.data, each.hash) for n, each in zip(itertools.count(), LEAVES, strict=False)
    ]


def test_a_log_that_another_process_keeps_locked_is_unavailable_not_tampered(
    log, reader, tmp_path, monkeypatch
):
    log.close()
    monkeypatch.setattr("airflow_secure_ml.adapters.sqlite_audit.reader.BUSY_S", 0.0)
    other = sqlite3.connect(tmp_path / "trail.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(ServiceUnavailableError, match="locked"):
        reader.size()
    other.close()
    assert reader.size() == 6


def test_a_log_whose_making_was_interrupted_is_made_anew(tmp_path):
    (tmp_path / ".trail.db.new").write_bytes(b"half of it")

    with SqliteAuditWriter(tmp_path / "trail.db", ORIGIN) as writer:
        assert writer.edge().size == 0
    assert not (tmp_path / ".trail.db.new").exists()


def test_a_file_without_the_log_s_tables_is_no_log(tmp_path):
    (tmp_path / "trail.db").touch()

    with pytest.raises(AuditLogError, match="its tables are not this release's"):
        SqliteAuditWriter(tmp_path / "trail.db", ORIGIN)
