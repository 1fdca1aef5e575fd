"""What pages ask a log besides a list: who, what not, how many, which values, since when."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.subject_keys import FILE, SubjectKeys
from airflow_secure_ml.core.audit import counting
from airflow_secure_ml.core.audit.query import MAX_BARS, EventQuery, Histogram, Values
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, FormatError
from tests.contracts.audit_stores import ORIGIN, append, leaf

HERE, THERE = "aa" * 16, "bb" * 16
DIGEST = "sha256:" + "5e" * 32
LEASE = "sha256:" + "cd" * 32
HOUR = 3_600_000
SALT = bytes([1]) * 16


def named(name, salt_byte):
    """A person as an event holds them, and what lies aside."""
    salt = bytes([salt_byte]) * 16
    h = hidden_hash(name, salt)
    return {"h": h, "n": len(name)}, Aside(h=h, salt=salt.hex(), value=name)


ADA_HERE, ADA_HERE_ASIDE = named("ada", 1)
ADA_THERE, ADA_THERE_ASIDE = named("ada", 2)
BOB, BOB_ASIDE = named("bob", 3)
ASIDES = [ADA_HERE_ASIDE, ADA_THERE_ASIDE, BOB_ASIDE]
DATA_3, DATA_4 = {"name": "data", "version": "3"}, {"name": "data", "version": "4"}
MODELS_3 = {"name": "models", "version": "3"}
CHANGED = {"uri": "file:///a", "digest": DIGEST}
HIDDEN = {"h": hidden_hash("file:///secret", bytes(16)), "n": 14}


def of(emitter, seq, **fields):
    return leaf(seq, emitter=emitter, **fields)


def opened(emitter, time, host, dag=None):
    return leaf(0, emitter=emitter, time=time, act="emitter.open", dag=dag, more={"host": host})


LEAVES = [
    of(HERE, 0, time=0, act="emitter.open", dag=None, more={"host": "worker-1"}),
    of(HERE, 1, time=10, act="key.rotate", result=None, dag=None, by=ADA_HERE, key=DATA_3),
    of(HERE, 2, time=20, act="key.rotate", dag=None, by=ADA_HERE, of=f"{HERE}:1", key=DATA_4),
    of(THERE, 0, time=30, act="emitter.open", dag=None, more={"host": "worker-2"}),
    of(THERE, 1, time=HOUR, act="trail.view", dag=None, by=ADA_THERE),
    of(THERE, 2, time=HOUR + 1, act="trail.view", dag=None, by=BOB, more={"host": "worker-1"}),
    of(THERE, 3, time=HOUR + 2, result="refused", why="digest_differs", object=CHANGED),
    of(THERE, 4, time=HOUR + 3, act="lease.grant", dag="sales", lease={"id": LEASE}, key=MODELS_3),
    of(THERE, 5, time=3 * HOUR, act="object.seal", dag="sales", object={"uri": HIDDEN}),
]  # fmt: skip


@pytest.fixture
def log(trail_store):
    with trail_store.writer(ORIGIN) as writer:
        append(writer, LEAVES, asides=ASIDES)
        yield writer


@pytest.fixture
def reader(log, trail_store):
    return trail_store.reader()


@pytest.fixture(params=["open", "sealed"])
def people(request, trail_store, tmp_path):
    """The log's store, with names in the open or under keys."""
    if request.param == "sealed":
        trail_store.subjects = SubjectKeys(tmp_path / "subjects" / FILE)
    with trail_store.writer(ORIGIN) as writer:
        append(writer, LEAVES, asides=ASIDES)
    return trail_store


def indices(reader, **query):
    return [each.index for each in reader.page(EventQuery(**query))]


QUERIES = [
    ({"digest": DIGEST}, [6]),
    ({"key": "data", "version": "3"}, [1]),
    ({"version": "3"}, [7, 1]),
    ({"lease": LEASE}, [7]),
    ({"of": f"{HERE}:1"}, [2]),
    ({"host": "worker-1"}, [2, 1, 0]),
    ({"host": "worker-2"}, [8, 7, 6, 5, 4, 3]),
    ({"host": "worker-2", "dag": "sales"}, [8, 7]),
    ({"host": "worker-3"}, []),
    ({"excluded": (("dag", "sales"),)}, [6, 5, 4, 3, 2, 1, 0]),
    ({"excluded": (("dag", "sales"), ("dag", "churn"))}, [5, 4, 3, 2, 1, 0]),
    ({"excluded": (("act", "emitter."), ("act", "trail.view"))}, [8, 7, 6, 2, 1]),
    ({"excluded": (("result", "intent"), ("result", "refused"))}, [8, 7, 5, 4, 3, 2, 0]),
    ({"excluded": (("host", "worker-2"),)}, [2, 1, 0]),
    ({"excluded": (("version", "3"),), "acts": ("key.",)}, [2]),
    ({"excluded": (("digest", DIGEST), ("uri", "file:///a"))}, [8, 7, 5, 4, 3, 2, 1, 0]),
    ({"excluded": (("text", "WORKER"),)}, [8, 7, 6, 4, 2, 1]),
    ({"excluded": (("of", f"{HERE}:1"), ("emitter", THERE))}, [1, 0]),
    ({"excluded": (("lease", LEASE), ("run", "x\0"))}, [8, 6, 5, 4, 3, 2, 1, 0]),
    ({"excluded": (("ti", "ti-0"), ("task", "test"))}, [8, 6, 5, 4, 3, 2, 1, 0]),
    ({"excluded": (("key", "' OR 1=1 --"),), "above_index": 6}, [8, 7]),
    ({"host": "\0"}, []),
    ({"of": "\ud800"}, []),
    ({"version": "x" * 400}, []),
]  # fmt: skip
OF_PEOPLE = [
    ({"by": "ada"}, [4, 2, 1]),
    ({"by": "bob"}, [5]),
    ({"by": "nobody"}, []),
    ({"by": "ada", "acts": ("trail.",)}, [4]),
    ({"by": ADA_THERE["h"]}, [4, 2, 1]),
    ({"by": "0" * 64}, []),
    ({"excluded": (("by", "ada"),)}, [8, 7, 6, 5, 3, 0]),
    ({"excluded": (("by", ADA_HERE["h"]), ("by", "bob"))}, [8, 7, 6, 3, 0]),
    ({"by": "\0"}, []),
]  # fmt: skip


def test_a_filter_finds_exactly_what_fits(reader):
    for query, expected in QUERIES:
        assert indices(reader, **query) == expected, query
        assert reader.count(EventQuery(**query), at_most=99) == len(expected), query


def test_people_are_found_by_their_names_and_by_what_stands_for_them(people):
    reader = people.reader()

    for query, expected in OF_PEOPLE:
        assert indices(reader, **query) == expected, query
        assert reader.count(EventQuery(**query), at_most=99) == len(expected), query
    assert reader.span(EventQuery(by="ada")) == (10, HOUR)
    assert reader.values(EventQuery(), "by", limit=9).values == (("ada", 3), ("bob", 1))
    found = reader.histogram(EventQuery(by="ada"), from_ms=0, until_ms=2 * HOUR, buckets=2)
    assert found.bars == ((2, 0), (1, 0))


def test_what_no_event_has_cannot_be_excluded():
    with pytest.raises(FormatError, match="'colour' cannot be excluded; expected one of act, by"):
        EventQuery(excluded=(("dag", "a"), ("colour", "red")))


def test_a_host_of_any_length_is_told_from_others(log, reader):
    long = "w" * 600
    append(log, [opened("c1" * 16, 1, long), opened("c2" * 16, 2, long + "x")])

    assert indices(reader, host=long) == [9]
    assert indices(reader, excluded=(("host", long),), above_index=8) == [10]


def test_many_emitters_and_dags_are_found_in_order_of_time(log, reader):
    made = [opened(f"{n:032x}", n % 7, "big", dag=f"d{n % 3}") for n in range(6000)]
    append(log, made)
    append(log, [leaf(9, emitter=HERE, time=99, act="nothing", dag=None)])
    expected = sorted(range(6000), key=lambda n: (n % 7, n), reverse=True)

    found = reader.page(EventQuery(host="big"), limit=1000)
    assert [each.index - 9 for each in found] == expected[:1000]
    found = reader.page(EventQuery(dags=("d0", "d2")), limit=1000)
    assert [each.index - 9 for each in found] == [n for n in expected if n % 3 != 1][:1000]
    found = reader.page(EventQuery(acts=("emitter.open", "key.")), limit=1000)
    assert [each.index - 9 for each in found[3:]] == expected[:997]
    assert [each.index for each in found[:3]] == [3, 2, 1]
    for acts in (("", "emitter."), ("emitter.", "key.rotate.")):
        found = reader.page(EventQuery(acts=acts), limit=1000)
        assert [each.index - 9 for each in found[1:]] == expected[:999], acts


def test_a_name_that_was_put_on_anothers_events_is_noticed(people):
    keys = people.subjects
    row = (None, SALT, "ada") if keys is None else (keys.named("ada").id, None, "AAAA")
    people.edit("DELETE FROM aside WHERE h = ?", BOB["h"])
    people.edit("INSERT INTO aside(h, subject, salt, value) VALUES (?, ?, ?, ?)", BOB["h"], *row)

    with pytest.raises(AuditLogError, match="it was exchanged"):
        people.reader().page(EventQuery(by="ada"))
    with pytest.raises(AuditLogError, match="it was exchanged"):
        people.reader().values(EventQuery(), "by", limit=9)


def test_an_erased_person_is_found_no_more(trail_store, tmp_path):
    trail_store.subjects = SubjectKeys(tmp_path / "subjects" / FILE)
    with trail_store.writer(ORIGIN) as writer:
        append(writer, LEAVES, asides=ASIDES)
    trail_store.subjects.destroy(trail_store.subjects.named("ada").id)
    reader = trail_store.reader()

    assert indices(reader, by="ada") == []
    assert indices(reader, by=ADA_HERE["h"]) == [2, 1]
    assert reader.values(EventQuery(), "by", limit=9) == Values(values=(("bob", 1),), is_exact=True)


def test_where_the_keys_are_not_nobody_is_said_to_have_done_nothing(trail_store, tmp_path):
    trail_store.subjects = SubjectKeys(tmp_path / "subjects" / FILE)
    with trail_store.writer(ORIGIN) as writer:
        append(writer, LEAVES, asides=ASIDES)
    trail_store.subjects = SubjectKeys(tmp_path / "elsewhere" / FILE)

    with pytest.raises(ConfigurationError, match="audit_subjects_dir"):
        indices(trail_store.reader(), by="ada")
    with pytest.raises(ConfigurationError, match="audit_subjects_dir"):
        trail_store.reader().values(EventQuery(), "by", limit=9)


def test_a_histogram_counts_each_event_once(reader):
    found = reader.histogram(EventQuery(), from_ms=0, until_ms=4 * HOUR, buckets=4)

    assert found == Histogram(
        from_ms=0, bucket_ms=HOUR, bars=((4, 0), (4, 1), (0, 0), (1, 0)), is_exact=True
    )


COUNTED = [
    ({}, (20, HOUR + 1, 1), ((3, 0),)),
    ({"results": ("refused",)}, (0, 2 * HOUR, 2), ((0, 0), (1, 1))),
    ({"host": "worker-2", "from_ms": HOUR + 2}, (0, 2 * HOUR, 2), ((0, 0), (2, 1))),
    ({"dag": "churn", "excluded": (("result", "refused"),)}, (0, HOUR, 1), ((0, 0),)),
    ({"until_ms": 20}, (-10, 20, 3), ((0, 0), (1, 0), (1, 0))),
    ({}, (HOUR, HOUR + 3, MAX_BARS), ((1, 0), (1, 0), (1, 1))),
    ({}, (5 * HOUR, 6 * HOUR, 2), ((0, 0), (0, 0))),
    ({"dag": "\0"}, (0, HOUR, 1), ((0, 0),)),
]  # fmt: skip


def test_a_histogram_counts_what_fits(reader):
    for query, (from_ms, until_ms, buckets), bars in COUNTED:
        found = reader.histogram(
            EventQuery(**query), from_ms=from_ms, until_ms=until_ms, buckets=buckets
        )

        assert (found.bars, found.is_exact) == (bars, True), query


NONSENSE = [(0, 0, 1), (5, 4, 1), (0, 1, 0), (0, 1, MAX_BARS + 1), (-(2**60), 0, 1), (0, 2**60, 1)]


def test_a_histogram_of_nonsense_is_refused(reader):
    for from_ms, until_ms, buckets in NONSENSE:
        with pytest.raises(FormatError, match=r"histogram: .* expected"):
            reader.histogram(EventQuery(), from_ms=from_ms, until_ms=until_ms, buckets=buckets)


def test_a_histogram_of_too_many_events_is_an_estimate_and_says_so(log, reader, monkeypatch):
    # A log that is too large takes minutes to make.
    monkeypatch.setattr(counting, "MAX_COUNTED", 5000)
    made = [
        leaf(n, emitter="dd" * 16, time=10 * HOUR + n, result="refused" if n == 4321 else "ok")
        for n in range(9000)
    ]
    append(log, made)

    found = reader.histogram(EventQuery(), from_ms=10 * HOUR, until_ms=10 * HOUR + 9000, buckets=3)

    assert not found.is_exact
    assert all(2700 < n < 3300 for n, _ in found.bars)
    # A refusal is what is looked for: those are counted one by one.
    assert [refused for _, refused in found.bars] == [0, 1, 0]


VALUED = [
    ({}, "dag", (("sales", 2), ("churn", 1))),
    ({}, "task", (("train", 3),)),
    ({"acts": ("trail.", "key.")}, "act", (("key.rotate", 2), ("trail.view", 2))),
    ({}, "result", (("ok", 7), ("intent", 1), ("refused", 1))),
    ({}, "uri", (("file:///a", 1),)),
    ({}, "key", (("data", 2), ("models", 1))),
    ({}, "emitter", ((THERE, 6), (HERE, 3))),
    ({"dags": ("sales",)}, "dag", (("sales", 2),)),
    ({"dag": "nothing"}, "dag", ()),
]  # fmt: skip


def test_values_are_told_by_how_often_they_occur(reader):
    for query, field, expected in VALUED:
        found = reader.values(EventQuery(**query), field, limit=9)

        assert found == Values(values=expected, is_exact=True), (query, field)


def test_values_beyond_the_limit_are_the_rarer_ones(reader):
    assert reader.values(EventQuery(), "emitter", limit=1).values == ((THERE, 6),)
    assert reader.values(EventQuery(), "emitter", limit=0).values == ()


def test_values_of_many_events_are_those_of_the_newest_and_say_so(log, reader):
    made = [
        leaf(n, emitter="dd" * 16, time=10 * HOUR + n, dag="old" if n < 5 else "new")
        for n in range(counting.MAX_VALUED + 5)
    ]
    append(log, made)

    found = reader.values(EventQuery(), "dag", limit=9)

    # Those that are older are told all the same: a key's page without an old key would be a lie.
    older = (("churn", 1), ("old", 1), ("sales", 1))
    assert found == Values(values=(("new", counting.MAX_VALUED), *older), is_exact=False)
    assert reader.values(EventQuery(dag="old"), "dag", limit=9) == Values(
        values=(("old", 5),), is_exact=True
    )
    assert reader.values(EventQuery(), "task", limit=9).values == (("train", counting.MAX_VALUED),)


def test_values_of_another_field_are_refused(reader):
    with pytest.raises(FormatError, match="values: 'data' is not a field"):
        reader.values(EventQuery(), "data", limit=9)


def test_a_log_begins_and_ends_when_its_events_say(reader):
    assert reader.span(EventQuery()) == (0, 3 * HOUR)
    assert reader.span(EventQuery(dag="churn")) == (HOUR + 2, HOUR + 2)
    assert reader.span(EventQuery(dag="nothing")) is None


def test_an_event_may_hold_anything_where_a_host_or_a_person_stands(log, reader):
    odd = [
        opened("c1" * 16, 1, ["a", {"b": 1}]),
        leaf(1, emitter="c1" * 16, time=2, dag=None, by={"h": ["x"], "n": 1}),
        leaf(2, emitter="c1" * 16, time=3, dag=None, by="ada"),
        leaf(3, emitter="c1" * 16, time=4, dag=None, object={"digest": 7}, key={"version": [3]}),
    ]
    append(log, odd)

    assert indices(reader, by="ada") == [4, 2, 1]
    assert indices(reader, host="a") == []
    assert reader.values(EventQuery(), "by", limit=9).values == (("ada", 3), ("bob", 1))
